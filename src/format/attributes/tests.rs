//! Every attribute, its range, and the field it changes.

use super::super::create::plan;
use super::super::geometry::Geometry;
use super::super::header::{Field, HALF_CHANGED};
use super::super::options::CreateOptions;
use super::super::tests::arbitrary_header;
use super::*;
use proptest::prelude::*;

fn apply(text: &str, header: &mut Header) -> Result<(), FormatError> {
    Attribute::parse(text)?.apply(header)
}

/// A value for an attribute, and what it does to the header.
type Change = (&'static str, fn(&mut Header));

/// One for each attribute, in the order of the list.
const CHANGES: &[Change] = &[
    ("size=1G", |h| h.virtual_disk_size = 1 << 30),
    ("base_img=b,c", |h| h.base_img = "b,c".to_owned()),
    ("data_file=d", |h| h.data_file = "d".to_owned()),
    ("need_zero_init=on", |h| h.need_zero_init = true),
    ("copy_on_read=yes", |h| h.copy_on_read = true),
    ("clean_shutdown=true", |h| h.clean_shutdown = true),
    ("max_outstanding_copy_on_read_data=4K", |h| {
        h.max_outstanding_copy_on_read_data = 4096
    }),
    ("prefetch_start_delay=-1", |h| h.prefetch_start_delay = -1),
    ("max_num_outstanding_prefetch_writes=3", |h| {
        h.num_prefetch_slots = 3
    }),
    ("bytes_per_prefetch=64K", |h| h.bytes_per_prefetch = 65_536),
    ("prefetch_min_read_throughput_threshold=1", |h| {
        h.prefetch_min_read_throughput = 1
    }),
    ("prefetch_min_write_throughput_threshold=2", |h| {
        h.prefetch_min_write_throughput = 2
    }),
    ("prefetch_max_read_throughput_threshold=3", |h| {
        h.prefetch_max_read_throughput = 3
    }),
    ("prefetch_max_write_throughput_threshold=4", |h| {
        h.prefetch_max_write_throughput = 4
    }),
    ("prefetch_perf_calc_alpha=50", |h| {
        h.prefetch_perf_calc_alpha = 50
    }),
    ("prefetch_read_throughput_measure_time=5", |h| {
        h.prefetch_read_throughput_measure_time = 5
    }),
    ("prefetch_write_throughput_measure_time=6", |h| {
        h.prefetch_write_throughput_measure_time = 6
    }),
    ("prefetch_over_threshold_throttle_time=7", |h| {
        h.prefetch_throttle_time = 7
    }),
    ("generate_prefetch_profile=on", |h| {
        h.generate_prefetch_profile = true
    }),
    ("profile_directed_prefetch_start_delay=8", |h| {
        h.profile_directed_prefetch_start_delay = 8
    }),
    ("write_updates_base_img=writeback", |h| {
        h.write_updates_base_img = WriteUpdatesBase::Writeback;
    }),
];

#[test]
fn each_attribute_changes_its_field_and_no_other() {
    for (text, change) in CHANGES {
        let (mut header, mut wanted) = (Header::default(), Header::default());
        apply(text, &mut header).unwrap();
        change(&mut wanted);
        assert_ne!(wanted, Header::default(), "{text}");
        assert_eq!(header, wanted, "{text}");
    }
    let tested: Vec<_> = CHANGES
        .iter()
        .map(|(text, _)| text.split('=').next().unwrap())
        .collect();
    let listed: Vec<_> = UPDATE_ATTRIBUTES.iter().map(|info| info.name).collect();
    assert_eq!(tested, listed);
}

#[test]
fn each_attribute_has_its_range() {
    for text in [
        "size=big",
        "size=2000000T",
        "need_zero_init=2",
        "max_outstanding_copy_on_read_data=0",
        "prefetch_start_delay=soon",
        "max_num_outstanding_prefetch_writes=0",
        "bytes_per_prefetch=4095",
        "bytes_per_prefetch=4G",
        "prefetch_min_read_throughput_threshold=-1",
        "prefetch_max_read_throughput_threshold=0",
        "prefetch_max_write_throughput_threshold=4294967296",
        "prefetch_perf_calc_alpha=101",
        "prefetch_read_throughput_measure_time=0",
        "write_updates_base_img=on",
        "copy_on_read",
    ] {
        let name = text.split('=').next().unwrap();
        let message = Attribute::parse(text).unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("{name}: bad value")),
            "{message}"
        );
    }
}

#[test]
fn an_unknown_attribute_is_refused_with_all_known_ones() {
    let message = Attribute::parse("block_size=1M").unwrap_err().to_string();
    let wanted = "unknown option \"block_size\"; allowed: size, base_img, data_file,";
    assert!(message.starts_with(wanted), "{message}");
}

#[test]
fn a_disk_only_grows() {
    let mut header = Header {
        virtual_disk_size: 4096,
        ..Header::default()
    };
    let error = apply("size=4095", &mut header).unwrap_err();
    let wanted = "size is 4095, but must be at least 4096 (a disk only grows)";
    assert_eq!(error.to_string(), wanted);
    apply("size=4096", &mut header).unwrap();
    apply("size=4097", &mut header).unwrap();
    assert_eq!(header.virtual_disk_size, 4608, "rounded up to a sector");
}

#[test]
fn the_name_of_a_base_that_is_needed_stays() {
    let needs = Header {
        base_img: "b".to_owned(),
        base_img_size: 512,
        ..Header::default()
    };
    let mut header = needs.clone();
    let error = apply("base_img=", &mut header).unwrap_err();
    assert!(
        matches!(
            error,
            FormatError::Refused {
                name: "base_img",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(header, needs);
    header.all_data_in_fvd_img = true;
    apply("base_img=", &mut header).unwrap();
    assert_eq!(header.base_img, "");
}

#[test]
fn a_name_that_would_not_be_read_back_is_refused() {
    let long = "a".repeat(1024);
    for name in ["\u{1}", "\u{1}a", "a\0b", &long] {
        for attribute in ["base_img", "data_file"] {
            let error = apply(&format!("{attribute}={name}"), &mut Header::default()).unwrap_err();
            let message = error.to_string();
            assert!(message.starts_with(&format!("{attribute} h")), "{message}"); // has, holds
        }
    }
}

#[test]
fn a_half_changed_base_name_can_be_set_again() {
    let text = "size=1M,backing_file=b";
    let options = CreateOptions::parse(text).unwrap();
    let (header, geometry) = plan(&options, Some(4096)).unwrap();
    let mut bytes = header.encode().unwrap();
    bytes[28] = HALF_CHANGED;
    let mut read = Header::decode_to_repeat(&*bytes, Field::BaseImg).unwrap();
    assert_eq!(
        Geometry::from_header(&read, geometry.metadata_size).as_ref(),
        Ok(&geometry)
    );
    apply("base_img=b", &mut read).unwrap();
    assert_eq!(read, header);
}

proptest! {
    #[test]
    fn a_refused_change_changes_nothing(header in arbitrary_header(), size: u64) {
        let mut changed = header.clone();
        if Attribute::Size(size >> 4).apply(&mut changed).is_err() {
            prop_assert_eq!(changed, header);
        }
    }
}
