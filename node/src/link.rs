//! The share link: all a viewer needs.
//!
//! `starling://<stream key>/<name>?origin=<url>&at=<multiaddr>…&hint=<multiaddr>…`: the key first, everything else a
//! repeatable or optional parameter, unknown ones ignored, so that links stay valid as parameters are added.

use std::fmt;
use std::str::FromStr;

use libp2p::{Multiaddr, PeerId};
use starling_proto::wire::MAX_TEXT_LEN;
use thiserror::Error;
use url::Url;

/// A parsed link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The stream's key, as the peer id it stands for.
    pub key: PeerId,
    /// The stream's name.
    pub name: String,
    /// Where the first picture and missing bytes come from.
    pub origin: Url,
    /// Where the broadcaster's node listens.
    pub at: Vec<Multiaddr>,
    /// Hint servers, each with its `/p2p/…`.
    pub hints: Vec<Multiaddr>,
}

/// Why a text is no link.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// Not even its beginning.
    #[error("this is not a Starling link: it must begin with starling:// and is what `starling broadcast` prints")]
    Scheme,
    /// The part after `starling://`.
    #[error("the link's stream key is damaged; copy the link again, whole")]
    Key,
    /// The name.
    #[error("the link has no stream name, or one longer than {MAX_TEXT_LEN} bytes; copy the link again, whole")]
    Name,
    /// `origin=`.
    #[error("the link has no usable origin address (origin=http…); copy the link again, whole")]
    Origin,
    /// `at=` or `hint=`.
    #[error("the link holds a damaged address ({0}=); copy the link again, whole")]
    Address(&'static str),
    /// More addresses than any link needs.
    #[error("the link holds more than {ADDRESSES_MAX} addresses of one kind")]
    TooMany,
}

/// Addresses of one kind in a link.
pub const ADDRESSES_MAX: usize = 16;

impl FromStr for Link {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let url = Url::parse(text.trim()).map_err(|_| LinkError::Scheme)?;
        if url.scheme() != "starling" {
            return Err(LinkError::Scheme);
        }
        let key: PeerId = url.host_str().and_then(|host| host.parse().ok()).ok_or(LinkError::Key)?;
        crate::identity::to_proto(&key).ok_or(LinkError::Key)?;
        let name = percent_decoded(url.path().trim_start_matches('/')).ok_or(LinkError::Name)?;
        if name.is_empty() || name.len() > MAX_TEXT_LEN {
            return Err(LinkError::Name);
        }
        let mut origin = None;
        let (mut at, mut hints) = (Vec::new(), Vec::new());
        for (key, value) in url.query_pairs() {
            match key.as_ref() {
                "origin" => origin = Url::parse(&value).ok(),
                "at" => at.push(value.parse().map_err(|_| LinkError::Address("at"))?),
                "hint" => hints.push(hint_address(&value).ok_or(LinkError::Address("hint"))?),
                _ => {}
            }
        }
        if at.len() > ADDRESSES_MAX || hints.len() > ADDRESSES_MAX {
            return Err(LinkError::TooMany);
        }
        let origin = origin.filter(|o: &Url| matches!(o.scheme(), "http" | "https")).ok_or(LinkError::Origin)?;
        Ok(Self { key, name, origin, at, hints })
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name: String = url::form_urlencoded::byte_serialize(self.name.as_bytes()).collect();
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("origin", self.origin.as_str());
        self.at.iter().for_each(|a| {
            query.append_pair("at", &a.to_string());
        });
        self.hints.iter().for_each(|h| {
            query.append_pair("hint", &h.to_string());
        });
        // '+' for space is form encoding; in a path it would be a plus.
        write!(f, "starling://{}/{}?{}", self.key, name.replace('+', "%20"), query.finish())
    }
}

/// A hint server's address, which must end in its `/p2p/…`: without it anybody could answer in its place.
pub fn hint_address(text: &str) -> Option<Multiaddr> {
    let address: Multiaddr = text.parse().ok()?;
    matches!(address.iter().last(), Some(libp2p::multiaddr::Protocol::P2p(_))).then_some(address)
}

fn percent_decoded(text: &str) -> Option<String> {
    let pair = format!("x={}", text.replace('+', "%2B"));
    let (_, value) = url::form_urlencoded::parse(pair.as_bytes()).next()?;
    (!value.contains('\u{fffd}')).then(|| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::identity::Keypair;

    fn link() -> Link {
        let hint = Keypair::generate_ed25519().public().to_peer_id();
        Link {
            key: Keypair::generate_ed25519().public().to_peer_id(),
            name: "Sunday match / 2+2 ü".into(),
            origin: Url::parse("http://192.0.2.7:8080/live/index.m3u8?a=b&c=d").expect("url"),
            at: vec!["/ip4/192.0.2.7/udp/7300/quic-v1".parse().expect("multiaddr")],
            hints: vec![format!("/ip4/192.0.2.8/udp/7400/quic-v1/p2p/{hint}").parse().expect("multiaddr")],
        }
    }

    #[test]
    fn survives_a_round_trip() {
        let link = link();
        assert_eq!(link.to_string().parse(), Ok(link));
    }

    #[test]
    fn says_what_is_wrong() {
        let good = link().to_string();
        assert_eq!("hello".parse::<Link>(), Err(LinkError::Scheme));
        assert_eq!("https://example.org/x".parse::<Link>(), Err(LinkError::Scheme));
        assert_eq!("starling://abc/x?origin=http://a/".parse::<Link>(), Err(LinkError::Key));
        assert_eq!(good.replace("origin=", "elsewhere=").parse::<Link>(), Err(LinkError::Origin));
        assert_eq!(good.replace("at=", "at=nonsense").parse::<Link>(), Err(LinkError::Address("at")));
        assert_eq!(good[..good.len() - 10].parse::<Link>(), Err(LinkError::Address("hint")));
    }

    #[test]
    fn ignores_what_it_does_not_know() {
        let link = link();
        assert_eq!(format!("{link}&colour=blue").parse(), Ok(link));
    }
}
