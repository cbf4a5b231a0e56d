//! libp2p's names for peers and keys, and ours.

use libp2p::identity::{Keypair, PublicKey, ed25519};

/// Our name for a libp2p peer; `None` if its key isn't Ed25519, which no Starling peer's is.
pub fn to_proto(peer: &libp2p::PeerId) -> Option<starling_proto::PeerId> {
    public_key(peer).map(|key| starling_proto::PeerId(key.to_bytes()))
}

/// libp2p's name for one of ours; `None` if the bytes aren't a point on the curve.
pub fn to_libp2p(peer: &starling_proto::PeerId) -> Option<libp2p::PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&peer.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// Our name for the holder of a key.
pub fn of(key: &Keypair) -> Option<starling_proto::PeerId> {
    to_proto(&key.public().to_peer_id())
}

/// The first four bytes of a peer's key in hexadecimal: enough to tell some hundreds of peers apart, for people.
pub fn short(peer: &starling_proto::PeerId) -> String {
    peer.0[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The public key a peer id embeds (libp2p inlines keys of up to 42 bytes).
pub fn public_key(peer: &libp2p::PeerId) -> Option<ed25519::PublicKey> {
    const IDENTITY_MULTIHASH: u64 = 0;
    let multihash = peer.as_ref();
    if multihash.code() != IDENTITY_MULTIHASH {
        return None;
    }
    PublicKey::try_decode_protobuf(multihash.digest()).ok()?.try_into_ed25519().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_convert_both_ways() {
        let peer = Keypair::generate_ed25519().public().to_peer_id();
        let ours = to_proto(&peer).expect("an Ed25519 key");
        assert_eq!(to_libp2p(&ours), Some(peer));
    }
}
