//! Golden bytes, by hand from the specification.

use super::*;

/// What a message looks like on the wire, in hexadecimal.
fn hex(message: &(impl IntoBytes + Immutable)) -> String {
    message
        .as_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[test]
fn messages_look_as_the_specification_has_them() {
    let greeting = Greeting {
        magic: GREETING_MAGIC.into(),
        style: OPTION_MAGIC.into(),
        flags: 3.into(),
    };
    assert_eq!(greeting.as_bytes(), b"NBDMAGICIHAVEOPT\x00\x03");
    let option = OptionHeader {
        magic: OPTION_MAGIC.into(),
        option: option::GO.into(),
        length: 10.into(),
    };
    assert_eq!(
        option.as_bytes(),
        b"IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x0a"
    );
    let reply = OptionReply {
        magic: OPTION_REPLY_MAGIC.into(),
        option: option::LIST.into(),
        kind: option_reply::ERROR_POLICY.into(),
        length: 1.into(),
    };
    assert_eq!(hex(&reply), "0003e889045565a9000000038000000200000001");
    let export = ExportReply {
        size_bytes: 0x1_0000_0000.into(),
        flags: (transmission_flag::HAS_FLAGS | transmission_flag::CAN_MULTI_CONN).into(),
    };
    assert_eq!(hex(&export), "00000001000000000101");
    let request = Request {
        magic: REQUEST_MAGIC.into(),
        flags: command_flag::FUA.into(),
        command: command::WRITE.into(),
        cookie: 0x0102_0304_0506_0708.into(),
        offset: 0x1000.into(),
        length: 0x200.into(),
    };
    assert_eq!(
        hex(&request),
        "25609513000100010102030405060708000000000000100000000200"
    );
    let simple = SimpleReply {
        magic: SIMPLE_REPLY_MAGIC.into(),
        error: Failure::NoSpace.number().into(),
        cookie: 9.into(),
    };
    assert_eq!(hex(&simple), "674466980000001c0000000000000009");
    let header = ChunkHeader {
        magic: CHUNK_MAGIC.into(),
        flags: chunk::FLAG_DONE.into(),
        kind: chunk::ERROR.into(),
        cookie: 9.into(),
        length: 6.into(),
    };
    assert_eq!(hex(&header), "668e33ef00018001000000000000000900000006");
    let error = ErrorChunk {
        error: Failure::ShuttingDown.number().into(),
        text_bytes: 2.into(),
    };
    assert_eq!(hex(&error), "0000006c0002");
}
