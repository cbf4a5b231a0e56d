//! Which addresses a request may go to, enforced where connections are made.
//!
//! Two HTTP clients: one for the base URL's own host and port, which may be anywhere (a link to a machine in the living
//! room is a link the viewer chose), and one for everything else. The second resolves names itself and refuses a name
//! unless *all* its addresses are public; the connection then goes to exactly the addresses that were checked, so a name
//! that answers differently the second time gains nothing. Redirects are followed here, each through the same checks.

use std::error::Error as StdError;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{HeaderValue, LOCATION, RANGE};
use reqwest::{Client, Response, redirect};
use thiserror::Error;
use tokio::time::timeout;
use tracing::debug;
use url::{Host, Url};

use super::address::is_global;
use super::{CONNECT_WITHIN, FetchError, REDIRECTS_MAX, REQUESTS_MAX};

/// How requests leave this process.
#[derive(Debug)]
pub(crate) struct Clients {
    own_host: Option<Host>,
    own_port: Option<u16>,
    own: Client,
    /// `None` if other hosts may be anywhere, too.
    foreign: Option<Client>,
}

/// Where hosts other than the base URL's may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// On the public internet: for what a stream says to a viewer.
    Public,
    /// Anywhere: for what the operator's own packager says to the operator.
    Anywhere,
}

impl Clients {
    /// For what `base` and the playlists there name.
    pub(crate) fn new(base: &Url, reach: Reach) -> Result<Self, reqwest::Error> {
        let builder = || {
            Client::builder()
                .user_agent(crate::AGENT)
                .connect_timeout(CONNECT_WITHIN)
                .redirect(redirect::Policy::none())
                .pool_max_idle_per_host(REQUESTS_MAX)
                .pool_idle_timeout(Duration::from_secs(60))
        };
        let foreign = match reach {
            Reach::Anywhere => None,
            // A proxy would resolve names out of our sight.
            Reach::Public => Some(builder().dns_resolver(PublicNames).no_proxy().build()?),
        };
        let own_host = base.host().map(|host| host.to_owned());
        Ok(Self { own_host, own_port: base.port_or_known_default(), own: builder().build()?, foreign })
    }

    /// One GET, redirects followed; `range` in bytes of the resource. The head of each answer must come `within` that
    /// time; reading the body is the caller's.
    pub(crate) async fn get(
        &self,
        mut url: Url,
        range: Option<&Range<u64>>,
        within: Duration,
    ) -> Result<Response, FetchError> {
        for _ in 0..=REDIRECTS_MAX {
            let sent = self.send(&url, range);
            let response = timeout(within, sent).await.map_err(|_| FetchError::Silent)??;
            let status = response.status();
            if !status.is_redirection() {
                return Ok(response);
            }
            let target = response.headers().get(LOCATION).map(HeaderValue::to_str);
            let Some(Ok(target)) = target else { return Err(FetchError::Status(status.as_u16())) };
            url = url.join(target).map_err(|_| FetchError::BadUri)?;
            debug!(status = status.as_u16(), "redirected");
        }
        Err(FetchError::Redirects)
    }

    async fn send(&self, url: &Url, range: Option<&Range<u64>>) -> Result<Response, FetchError> {
        let mut request = self.client_for(url)?.get(url.clone());
        if let Some(range) = range {
            // RFC 9110 §14.1.2 counts the last byte in.
            request = request.header(RANGE, format!("bytes={}-{}", range.start, range.end.saturating_sub(1)));
        }
        request.send().await.map_err(|e| explain(&e))
    }

    fn client_for(&self, url: &Url) -> Result<&Client, FetchError> {
        if !is_http(url) {
            return Err(FetchError::BadUri);
        }
        let host = url.host().map(|host| host.to_owned());
        let is_own = host == self.own_host && url.port_or_known_default() == self.own_port;
        let foreign = match &self.foreign {
            Some(foreign) if !is_own => foreign,
            Some(_) | None => return Ok(&self.own),
        };
        // IP addresses never reach the resolver.
        let public = match host {
            Some(Host::Ipv4(ip)) => is_global(IpAddr::V4(ip)),
            Some(Host::Ipv6(ip)) => is_global(IpAddr::V6(ip)),
            Some(Host::Domain(_)) => true,
            None => false,
        };
        if public { Ok(foreign) } else { Err(FetchError::Forbidden) }
    }
}

/// The scheme is one we speak.
pub(crate) fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// What went wrong, without the URL: it may carry a token.
pub(crate) fn explain(error: &reqwest::Error) -> FetchError {
    let mut cause: &(dyn StdError + 'static) = error;
    loop {
        if cause.is::<NotPublic>() {
            return FetchError::Forbidden;
        }
        let Some(deeper) = cause.source() else { break };
        cause = deeper;
    }
    if error.is_connect() {
        let reason = if error.is_timeout() { "no answer".to_owned() } else { cause.to_string() };
        FetchError::Connect(reason)
    } else if error.is_timeout() {
        FetchError::Silent
    } else {
        FetchError::Broken(cause.to_string())
    }
}

/// The system's resolver, minus names that point into private networks.
struct PublicNames;

#[derive(Debug, Error)]
#[error("the name points to an address that is not public")]
struct NotPublic;

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(admit(found)?.into_iter()) as Addrs)
        })
    }
}

fn admit(found: Vec<SocketAddr>) -> Result<Vec<SocketAddr>, NotPublic> {
    let all_public = found.iter().all(|address| is_global(address.ip()));
    if all_public { Ok(found) } else { Err(NotPublic) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_private_address_condemns_a_name() {
        let public: SocketAddr = "1.1.1.1:0".parse().unwrap();
        let private: SocketAddr = "192.168.0.1:0".parse().unwrap();
        assert_eq!(admit(vec![public]).unwrap(), vec![public]);
        assert!(admit(vec![public, private]).is_err());
    }

    #[test]
    fn only_the_links_host_and_port_may_be_private() {
        let base = Url::parse("http://192.168.0.1:8080/live/x.m3u8").unwrap();
        let clients = Clients::new(&base, Reach::Public).unwrap();
        let verdict = |url: &str| clients.client_for(&Url::parse(url).unwrap()).map(drop);
        assert_eq!(verdict("http://192.168.0.1:8080/else"), Ok(()));
        assert_eq!(verdict("https://1.1.1.1/"), Ok(()));
        for url in [
            "http://192.168.0.1/",
            "http://192.168.0.1:8081/live/x.m3u8",
            "https://192.168.0.1/",
            "http://127.1/",
            "http://2130706433/",
            "http://0x7f.0.0.1/",
            "http://[::1]:8080/",
            "http://[::ffff:192.168.0.1]:8080/",
            "http://169.254.169.254/latest/meta-data/",
        ] {
            assert_eq!(verdict(url), Err(FetchError::Forbidden), "{url}");
        }
        for url in ["file:///etc/passwd", "ftp://1.1.1.1/", "data:text/plain,x"] {
            assert_eq!(verdict(url), Err(FetchError::BadUri), "{url}");
        }
    }

    #[test]
    fn an_operators_source_may_spread_over_the_house() {
        let base = Url::parse("http://192.168.0.1:8080/live/x.m3u8").unwrap();
        let clients = Clients::new(&base, Reach::Anywhere).unwrap();
        assert!(clients.client_for(&Url::parse("http://192.168.0.2/1.ts").unwrap()).is_ok());
        assert!(clients.client_for(&Url::parse("file:///etc/passwd").unwrap()).is_err());
    }
}
