use super::{
    Broken, Chosen, Export, GREETING_BYTES, OPTION_REPLY_BYTES, REPLY_BYTES, Unanswered, choose,
    chosen, option_reply, reply,
};

/// What a server says first that knows everything.
const GREETING: &[u8; GREETING_BYTES] = b"NBDMAGICIHAVEOPT\x00\x03";

#[test]
fn an_export_is_chosen_by_its_name() {
    let mut wanted = vec![0, 0, 0, 3];
    wanted.extend(b"IHAVEOPT\0\0\0\x07\0\0\0\x0c\0\0\0\x04main\0\x01\xf4\x62");
    assert_eq!(choose(GREETING, "main", Unanswered::SentAgain), Ok(wanted));
    let mut wanted = vec![0, 0, 0, 3];
    wanted.extend(b"IHAVEOPT\0\0\0\x07\0\0\0\x0a\0\0\0\x04main\0\0");
    assert_eq!(choose(GREETING, "main", Unanswered::Lost), Ok(wanted));
    for wrong in [
        b"NBDMAGICIHAVEOPT\x00\x01",
        b"NBDMAGICIHAVEOPT\x00\x02",
        b"NBDMAGICIHAVEOPS\x00\x03",
        b"HTTP/1.1 400 Bad R",
    ] {
        assert!(choose(wrong, "main", Unanswered::Lost).is_err());
    }
}

#[test]
fn answers_are_bounded_and_to_the_point() {
    let header = |magic: u64, option: u32, length: u32| {
        let mut bytes = [0; OPTION_REPLY_BYTES];
        bytes[..8].copy_from_slice(&magic.to_be_bytes());
        bytes[8..12].copy_from_slice(&option.to_be_bytes());
        bytes[12..16].copy_from_slice(&3u32.to_be_bytes());
        bytes[16..].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let magic = 0x0003_e889_0455_65a9;
    assert_eq!(option_reply(&header(magic, 7, 12)), Ok((3, 12)));
    assert_eq!(option_reply(&header(magic, 7, 4096)), Ok((3, 4096)));
    assert!(option_reply(&header(magic, 7, 4097)).is_err());
    assert!(option_reply(&header(magic, 6, 12)).is_err());
    assert!(option_reply(&header(magic + 1, 7, 12)).is_err());
}

#[test]
fn a_description_tells_the_size_and_what_can_be_done() {
    let description = |flags: u16| {
        let mut data = vec![0, 0];
        data.extend((64u64 << 20).to_be_bytes());
        data.extend(flags.to_be_bytes());
        data
    };
    // Flags, flush, FUA, trim and write-zeroes.
    let export = Export {
        size_bytes: 64 << 20,
        flags: 0b1_0110_1101,
    };
    let described = chosen(3, &description(export.flags));
    assert_eq!(described, Ok(Chosen::Export(export)));
    for lacking in [0b110_1001, 0b100_1101, 0b010_1101, 0b110_1111] {
        assert!(chosen(3, &description(lacking)).is_err(), "{lacking:b}");
    }
    assert_eq!(chosen(3, &[0, 3, 1, 2]), Ok(Chosen::Other));
    assert_eq!(chosen(3, &[0]), Err(Broken("a description without a kind")));
    assert!(chosen(3, &[0, 0, 1]).is_err());
    assert_eq!(chosen(1, &[]), Ok(Chosen::Yes));
    let refusal = chosen(1 << 31 | 2, b"beta is the primary");
    assert_eq!(refusal, Ok(Chosen::No("beta is the primary".to_owned())));
}

#[test]
fn replies_name_their_request() {
    let mut bytes: [u8; REPLY_BYTES] =
        *b"\x67\x44\x66\x98\0\0\0\x1c\x01\x02\x03\x04\x05\x06\x07\x08";
    assert_eq!(reply(&bytes), Ok((0x0102_0304_0506_0708, 28)));
    bytes[0] = 0x66;
    assert!(reply(&bytes).is_err());
}
