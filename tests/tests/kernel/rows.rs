//! The packet rows in the kernel; `lb_tests::rows` runs the same ones on the host.

use lb_tests::rows::{BEHAVIOURS, of, run};

macro_rules! kernel {
    ($($behaviour:ident)*) => {
        $(
            #[test]
            fn $behaviour() {
                let failures = run::in_kernel(&of(stringify!($behaviour))).unwrap();
                assert!(failures.is_empty(), "{}", failures.join("\n"));
            }
        )*

        #[test]
        fn no_behaviour_is_left_out() {
            let run = [$(stringify!($behaviour)),*];
            let all = BEHAVIOURS.map(|(name, _)| name);
            // Every row of these needs the host: its clock, its headroom.
            let host_only = ["expiry", "refused"];
            let here: Vec<_> = all.into_iter().filter(|name| !host_only.contains(name)).collect();
            assert_eq!(here, run);
        }
    };
}

kernel! {
    backend_down checks closing counters dsr extensions firewall flood foreign martians fragments full_nat handshake hop_limit icmp ip_versions jumbo
    length limits lock_down mistaken mss nat next_hop no_backend options order passive schedulers service_lists services stray syn_cookies taken_up tunnels udp_checksum vlan
}

/// A row that cannot run here says so and is shown on the host.
#[test]
fn few_rows_need_the_host() {
    let rows: Vec<_> = BEHAVIOURS.iter().flat_map(|(_, rows)| rows()).collect();
    let host_only: Vec<_> = rows
        .iter()
        .filter_map(|row| row.needs_host().map(|why| (&row.name, why)))
        .collect();
    println!("{} rows, {} only on the host", rows.len(), host_only.len());
    for (name, why) in &host_only {
        println!("  {name}: {why}");
    }
    assert!(host_only.len() * 5 < rows.len());
}
