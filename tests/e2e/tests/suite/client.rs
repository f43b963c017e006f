//! The recording client itself, against a server that is known to be good.

use e2e::foreign::MemoryServer;
use e2e::journal::Journal;
use e2e::load::{Load, Plan};
use e2e::nbd::{Client, Request};
use e2e::verdict::Image;

#[test]
fn a_good_server_is_found_good_and_a_lost_write_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = MemoryServer::start(folder.path(), "64M");
    let plan = Plan {
        requests_max: 6_000,
        ..Plan::default()
    };
    let load =
        Load::start(&server.endpoint(), "", Journal::new(1, 16384), &plan).expect("it opens");
    let report = load.wait();
    assert_eq!(
        (&report.findings[..], &report.errors[..], &report.broken[..]),
        (&[][..], &[][..], &[][..])
    );
    assert!(
        report.acknowledged > 20_000,
        "{} writes",
        report.acknowledged
    );
    assert!(report.journal.rewritten() > 1_000);

    let mut client = Client::open(&server.endpoint(), "").expect("it opens");
    let image = Image::of_volume(&mut client).expect("it reads");
    assert_eq!(image.judge(&report.journal), []);

    let (block, data) = report
        .journal
        .previous_version(7_777)
        .expect("blocks were rewritten");
    let lost = Request::Write {
        offset: block * 4096,
        data: &data,
        fua: false,
    };
    client.call(lost).expect("the negative control is written");
    let found = Image::of_volume(&mut client)
        .expect("it reads")
        .judge(&report.journal);
    assert_eq!(
        found
            .iter()
            .map(|finding| finding.block)
            .collect::<Vec<_>>(),
        [block]
    );
}
