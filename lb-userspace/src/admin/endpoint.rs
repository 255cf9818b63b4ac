//! Everything that can be asked over the admin sockets, once: routing, the sentence for what is not
//! there and the reference come from this table.

use hyper::Method;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Page,
    Metrics,
    Healthz,
    Readyz,
    Status,
    Events,
    Flows,
    Why,
    Capture,
    Set,
    Reset,
    Reload,
}

/// Who may ask. On the Unix socket, everybody who can open it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Also over TCP, without a token.
    Open,
    /// Over TCP with the token only: it names clients, costs much, or changes something.
    Guarded,
}

/// One method on one path.
#[derive(Clone, Debug)]
pub(super) struct Endpoint {
    pub(super) route: Route,
    pub(super) method: Method,
    pub(super) path: &'static str,
    pub(super) access: Access,
}

/// All there are.
pub(super) const ENDPOINTS: &[Endpoint] = &[
    get(Route::Page, "/", Access::Open),
    get(Route::Metrics, "/metrics", Access::Open),
    get(Route::Healthz, "/healthz", Access::Open),
    get(Route::Readyz, "/readyz", Access::Open),
    get(Route::Status, "/status.json", Access::Open),
    get(Route::Events, "/events.json", Access::Open),
    get(Route::Flows, "/flows.json", Access::Guarded),
    get(Route::Why, "/why.json", Access::Guarded),
    get(Route::Capture, "/capture.pcapng", Access::Guarded),
    guarded(Route::Set, Method::PATCH, "/backends/SERVICE/BACKEND"),
    guarded(Route::Reset, Method::DELETE, "/backends/SERVICE/BACKEND"),
    guarded(Route::Reload, Method::POST, "/reload"),
];

const fn get(route: Route, path: &'static str, access: Access) -> Endpoint {
    Endpoint {
        route,
        method: Method::GET,
        path,
        access,
    }
}

const fn guarded(route: Route, method: Method, path: &'static str) -> Endpoint {
    Endpoint {
        route,
        method,
        path,
        access: Access::Guarded,
    }
}

impl Endpoint {
    /// Whether a path is meant: capitals in the table stand for anything but slashes.
    fn is_at(&self, path: &str) -> bool {
        let (mut own, mut asked) = (self.path.split('/'), path.split('/'));
        loop {
            match (own.next(), asked.next()) {
                (None, None) => return true,
                (Some(own), Some(asked)) => {
                    let is_any = own.starts_with(|first: char| first.is_ascii_uppercase());
                    if own != asked && (!is_any || asked.is_empty()) {
                        return false;
                    }
                }
                (Some(_), None) | (None, Some(_)) => return false,
            }
        }
    }
}

/// What the table has for a method and a path.
#[derive(Clone, Debug)]
pub(super) enum Found {
    Endpoint(&'static Endpoint),
    /// The path, but not with this method; with these.
    OtherMethods(Vec<Method>),
    Nothing,
}

/// Looks a method and a path up.
pub(super) fn find(method: &Method, path: &str) -> Found {
    let there = ENDPOINTS.iter().filter(|one| one.is_at(path));
    let mut methods = Vec::new();
    for endpoint in there {
        if endpoint.method == *method {
            return Found::Endpoint(endpoint);
        }
        methods.push(endpoint.method.clone());
    }
    if methods.is_empty() {
        Found::Nothing
    } else {
        Found::OtherMethods(methods)
    }
}

/// What to say of a path that is not there.
pub(super) fn nothing_here() -> String {
    let mut paths: Vec<&str> = ENDPOINTS.iter().map(|one| one.path).collect();
    paths.dedup();
    let last = paths.pop().unwrap_or_default();
    format!("there is nothing here; try {} or {last}", paths.join(", "))
}
