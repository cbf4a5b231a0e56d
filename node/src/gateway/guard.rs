//! Keeps other web sites out: any page a person visits can send requests to this machine.

use std::net::{IpAddr, SocketAddr};

use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use crate::hls::reply::failure;

/// Refuses requests that came under a foreign name: a site whose name was made to point to this machine (DNS
/// rebinding) would otherwise count as the same origin.
///
/// The port isn't compared. Rebinding needs a name, never an address, and a forwarded port (a container's, ssh's)
/// rightly differs from the bound one.
pub(super) async fn known_host(State(bound): State<SocketAddr>, request: Request, next: Next) -> Response {
    let host = host(request.headers());
    if host.as_ref().is_some_and(|host| is_ours(host.host(), bound.ip())) {
        return next.run(request).await;
    }
    let port = bound.port();
    let text = format!("this address isn't served under that name; open http://127.0.0.1:{port}/ instead");
    failure(StatusCode::MISDIRECTED_REQUEST, text)
}

/// Refuses to change anything for a page of another origin, or for a form. Programs other than browsers send neither
/// of the headers looked at, and may.
pub(super) async fn same_origin(request: Request, next: Next) -> Response {
    let headers = request.headers();
    if !is_same_origin(headers) {
        return failure(StatusCode::FORBIDDEN, "only the page served here may change anything here");
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = content_type.split(';').next().unwrap_or("").trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return failure(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send JSON, with content-type: application/json");
    }
    next.run(request).await
}

fn host(headers: &HeaderMap) -> Option<Authority> {
    Authority::try_from(headers.get(header::HOST)?.as_bytes()).ok()
}

/// Whether a name or address in a Host header can only mean this server.
fn is_ours(host: &str, bound: IpAddr) -> bool {
    if host.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let bare = host.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(host);
    let Ok(address) = bare.parse::<IpAddr>() else { return false };
    address.to_canonical().is_loopback() || address == bound || bound.is_unspecified()
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site == "same-origin";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let host = headers.get(header::HOST).map(|host| host.as_bytes());
    origin.as_bytes().strip_prefix(b"http://").is_some_and(|origin| Some(origin) == host)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn loopback_names_are_ours_and_others_are_not() {
        let bound = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for host in ["127.0.0.1", "localhost", "LocalHost", "[::1]", "127.8.8.8", "[::ffff:127.0.0.1]"] {
            assert!(is_ours(host, bound), "{host}");
        }
        for host in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.5", "[::2]", "[]"]
        {
            assert!(!is_ours(host, bound), "{host}");
        }
    }

    #[test]
    fn a_bound_address_is_ours_and_with_all_bound_every_address_is() {
        let lan = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 5));
        assert!(is_ours("192.168.1.5", lan));
        assert!(!is_ours("192.168.1.6", lan));
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        assert!(is_ours("192.168.1.6", any));
        assert!(!is_ours("evil.example", any));
    }
}
