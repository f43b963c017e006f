use super::ask;
use crate::attach::outstanding::Operation;
use crate::nbd::put_request;

fn request(operation: &Operation) -> Vec<u8> {
    let mut out = Vec::new();
    put_request(&mut out, 0x0102_0304_0506_0708, ask(operation));
    out
}

#[test]
fn requests_are_what_the_specification_says() {
    let common = |flags: u8, command: u8, offset: u64, length: u32| {
        let mut bytes = vec![0x25, 0x60, 0x95, 0x13, 0, flags, 0, command];
        bytes.extend([1, 2, 3, 4, 5, 6, 7, 8]);
        bytes.extend(offset.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes
    };
    let read = Operation::Read {
        offset: 4096,
        length: 512,
    };
    assert_eq!(request(&read), common(0, 0, 4096, 512));
    let write = Operation::Write {
        offset: 8192,
        data: vec![0; 512].into(),
    };
    assert_eq!(request(&write), common(0, 1, 8192, 512));
    assert_eq!(request(&Operation::Flush), common(0, 3, 0, 0));
    let zero = |allocated| Operation::Zero {
        offset: 4096,
        length: u32::MAX - 511,
        allocated,
    };
    assert_eq!(request(&zero(false)), common(0, 6, 4096, u32::MAX - 511));
    assert_eq!(request(&zero(true)), common(2, 6, 4096, u32::MAX - 511));
}
