//! The messages of the handshake, before and behind their keyed hashes.

use format::hello::{
    Hello, LinkKey, Opening, PREFIX_BYTES, Proof, Welcome, decode_prefix, negotiate,
};

const CLUSTER_KEY: [u8; 32] = [0x5a; 32];

fn opening(nonce: u8) -> Opening {
    Opening {
        versions: (1, 1),
        features: 0,
        nonce: [nonce; 32],
    }
}

/// Reads a stream that begins with a message, as whichever message it is.
fn read(bytes: &[u8], key: &LinkKey) {
    let Some((prefix, rest)) = bytes.split_at_checked(PREFIX_BYTES) else {
        return;
    };
    let Ok(prefix) = decode_prefix(prefix) else {
        return;
    };
    assert!(prefix.body_length() < 1024);
    let Some(body) = rest.get(..prefix.body_length()) else {
        return;
    };
    let message = &bytes[..PREFIX_BYTES + body.len()];
    if let Ok(theirs) = Opening::decode(&prefix, body) {
        assert!(theirs.encode() == message);
        let _ = negotiate(&opening(1), &theirs);
    }
    if let Ok(proof) = Proof::decode(&prefix, body) {
        assert!(proof.encode() == message);
    }
    if let Ok(hello) = Hello::decode(&prefix, body, key) {
        assert!(hello.encode(key) == message);
    }
    if let Ok(welcome) = Welcome::decode(&prefix, body, key) {
        assert!(welcome.encode(key) == message);
    }
}

/// Takes any bytes.
pub fn take(input: &[u8]) {
    let (dialer, acceptor) = (opening(1), opening(2));
    let key = LinkKey::new(&CLUSTER_KEY, &dialer, &acceptor);
    read(input, &key);
    let Some((kind, content)) = input.split_first() else {
        return;
    };
    let kind = kind % 5;
    let raw_key = crate::link_key(&CLUSTER_KEY, &dialer.encode(), &acceptor.encode());
    let link_key = (kind > 2).then_some(&raw_key);
    if let Some(bytes) = crate::message(kind, content, link_key) {
        read(&bytes, &key);
    }
}
