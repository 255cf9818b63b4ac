  // The MySQL proxy: servers, and where statements go and why.
  const MYSQL = [["Server", "th"], ["State", "state text"], ["Role", "text"], ["Lag"], ["Gets", "text"], ["Connections"],
    ["Statements/s"], ["Last 2 min", "chart"], ["Mean"], ["Why not", "last text"]];
  const mysqlRows = new Map(), mysqlLines = new Map();
  const mysqlHead = () => {
    const head = make("tr");
    for (const [label, kind] of MYSQL) {
      const cell = make("th", kind && kind.includes("text") ? "text" : "", label);
      cell.scope = "col";
      head.append(cell);
    }
    byId("mysql-head").replaceChildren(head);
  };
  const mysqlRow = (server) => {
    const row = { box: make("tr"), cells: [], chart: chart("Statements per second of " + server.name) };
    MYSQL.forEach(([label, kind], index) => {
      const cell = make(index ? "td" : "th", kind === "th" ? "" : kind);
      if (index) cell.dataset.label = label; else cell.scope = "row";
      row.cells.push(cell);
    });
    row.where = make("span");
    row.cells[0].append(server.name, row.where);
    row.chip = make("span", "chip");
    row.cells[1].append(row.chip);
    row.cells[7].append(row.chart.svg);
    row.box.append(...row.cells);
    return row;
  };
  const drawMysqlServers = (servers) => {
    const place = byId("mysql-servers"), wanted = new Set(servers.map((server) => server.name));
    for (const [name, row] of mysqlRows) if (!wanted.has(name)) { row.box.remove(); mysqlRows.delete(name); }
    servers.forEach((server, at) => {
      let row = mysqlRows.get(server.name);
      if (!row) mysqlRows.set(server.name, row = mysqlRow(server));
      const key = "m/" + server.name, count = rate(key + "/n", server.statements), took = rate(key + "/t", server.seconds);
      remember(key, count);
      const gets = !server.in_rotation ? "nothing" : server.role === "primary" ? "writes" : "reads";
      const state = server.health === "down" ? "down" : server.health !== "up" ? "checking" : server.in_rotation ? "up" : "out";
      if (row.chip.className !== "chip " + state) row.chip.className = "chip " + state;
      set(row.chip, server.health);
      set(row.where, server.address + (server.version ? " · " + server.version : ""));
      const most = server.max_connections ? "/" + server.max_connections : "", wait = server.waiting ? server.waiting + " wait for a connection" : "";
      const why = server.trouble || (!server.in_rotation && server.no_reads) || wait || "–";
      [[2, server.role], [3, server.lag_seconds === null ? "–" : duration(server.lag_seconds)], [4, gets],
        [5, server.connections + most], [6, short(count)], [8, duration(count ? took / count : null)], [9, why]]
        .forEach(([index, said]) => set(row.cells[index], said));
      row.chart.draw(histories.get(key) || [], short);
      if (place.children[at] !== row.box) place.insertBefore(row.box, place.children[at] || null);
    });
  };
  const drawMysqlReasons = (counts) => {
    const place = byId("mysql-reasons"), all = Object.entries(counts).sort((a, b) => b[1] - a[1]);
    const sum = Math.max(1, all.reduce((sum, [, count]) => sum + count, 0));
    for (const [label, line] of mysqlLines) if (!(label in counts)) { line.box.remove(); mysqlLines.delete(label); }
    all.forEach(([label, count], at) => {
      let line = mysqlLines.get(label);
      if (!line) mysqlLines.set(label, line = bar(label, ""));
      const gained = rate("mr/" + label, count);
      set(line.count, short(count) + (gained ? " · " + short(gained) + "/s" : ""));
      line.part.setAttribute("width", String(Math.max(0.4, 100 * count / sum)));
      if (place.children[at] !== line.box) place.insertBefore(line.box, place.children[at] || null);
    });
    if (!all.length && !place.children.length) place.append(make("p", "muted", "No statements yet."));
    else if (all.length && place.lastElementChild.tagName === "P") place.lastElementChild.remove();
  };
  const drawMysql = (mysql) => {
    byId("mysql").hidden = !mysql;
    if (!mysql) return;
    if (!byId("mysql-head").children.length) mysqlHead();
    const errors = Object.entries(mysql.errors).filter(([, count]) => count > 0).map(([kind, count]) => kind + " " + short(count));
    const total = mysql.statements.primary + mysql.statements.replica;
    const share = total ? Math.round(100 * mysql.statements.replica / total) + " % of statements to replicas" : "no statements yet";
    const users = (mysql.users || []).map((user) => user.name + " " + user.sessions + " of " + user.max_connections);
    set(byId("mysql-facts"), mysql.sessions + (mysql.sessions === 1 ? " session · " : " sessions · ") + share
      + (users.length ? " · " + users.join(", ") : "") + (errors.length ? " · errors: " + errors.join(", ") : ""));
    byId("mysql-trouble").hidden = !mysql.no_primary;
    set(byId("mysql-trouble"), mysql.no_primary ? "Nobody takes writes: " + mysql.no_primary : "");
    drawMysqlServers(mysql.servers);
    drawMysqlReasons(mysql.by_target);
  };
