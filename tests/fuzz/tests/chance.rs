//! What the fuzzer does for hours, for a moment: any bytes at all, short and long.
#![forbid(unsafe_code)]

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any};

/// Where it is cut to single bytes, a long input takes its time.
const BYTES_MAX: usize = 3000;

proptest::proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_are_taken(input in vec(any::<u8>(), 0..BYTES_MAX)) {
        fuzz::bitmap_page::take(&input);
        fuzz::frame::take(&input);
        fuzz::handshake::take(&input);
        fuzz::log_recovery::take(&input);
        fuzz::nbd_negotiation::take(&input);
        fuzz::nbd_session::take(&input);
        fuzz::superblock::take(&input);
    }
}
