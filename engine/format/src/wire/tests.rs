//! Holds the shared pieces against their documentation.

use super::{WireAdmission, WireConfiguration, WireName, disk_state};
use crate::tests::document::{assert_layouts, assert_numbers, layout};

#[test]
fn the_document_tells_where_the_fields_lie() {
    let layouts = [
        layout!(
            "Configuration",
            WireConfiguration {
                epoch,
                generation,
                primary,
                in_sync,
                reserved,
            }
        ),
        layout!("Admission", WireAdmission { epoch, generation }),
        layout!("Name", WireName { length, text }),
    ];
    assert_layouts("Shared pieces", &layouts);
}

#[test]
fn the_document_numbers_the_disk_states() {
    let states: Vec<(u64, String)> = (0..=u8::MAX)
        .filter_map(|number| Some((number.into(), format!("{:?}", disk_state(number).ok()?))))
        .collect();
    let states: Vec<(u64, &str)> = states
        .iter()
        .map(|(number, name)| (*number, name.as_str()))
        .collect();
    assert_numbers("Shared pieces", "Disk states", &states);
}
