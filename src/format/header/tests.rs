//! What a header's bytes mean, and which are refused.

use super::super::tests::arbitrary_header;
use super::*;
use proptest::prelude::*;

/// The bytes of a small header, with `bytes` put at `offset`.
fn with(offset: usize, bytes: &[u8]) -> Vec<u8> {
    let header = Header {
        virtual_disk_size: 1 << 20,
        metadata_size: 8192,
        ..Header::default()
    };
    let mut encoded = header.encode().unwrap().to_vec();
    encoded[offset..offset + bytes.len()].copy_from_slice(bytes);
    encoded
}

fn refusal(offset: usize, bytes: &[u8]) -> FormatError {
    Header::decode(&with(offset, bytes)).unwrap_err()
}

#[test]
fn an_image_is_known_by_its_magic() {
    assert!(Header::looks_like(&[0xA9, 0xF5, 0x43, 0x51]));
    assert!(Header::looks_like(&with(4, &[2])), "of any version");
    assert!(!Header::looks_like(&[0xA9, 0xF5, 0x43]));
    assert!(!Header::looks_like(b"QFI\xfb...."));
}

#[test]
fn another_magic_is_refused() {
    let error = refusal(0, b"QFI\xfb");
    assert_eq!(error, FormatError::NotFvd { magic: 0xFB49_4651 });
    assert_eq!(
        error.to_string(),
        "not an FVD image: magic is 0xfb494651, not 0x5143f5a9"
    );
    assert_eq!(Header::decode(&[]), Err(FormatError::NotFvd { magic: 0 }));
}

#[test]
fn another_version_is_refused() {
    let error = refusal(4, &[2, 0, 0, 0]);
    assert_eq!(error, FormatError::Version { version: 2 });
    assert_eq!(
        error.to_string(),
        "version is 2; this library knows version 1 only"
    );
}

#[test]
fn a_header_that_is_cut_is_refused() {
    let bytes = with(0, &[]);
    assert!(Header::decode(&bytes[..4336]).is_ok());
    assert_eq!(
        Header::decode(&bytes[..4335]),
        Err(FormatError::HeaderCut { len: 4335 })
    );
    assert_eq!(
        Header::decode(&bytes[..4]),
        Err(FormatError::HeaderCut { len: 4 })
    );
}

#[test]
fn each_negative_size_is_refused_by_name() {
    for (offset, field) in [
        (12, "virtual_disk_size"),
        (20, "metadata_size"),
        (1068, "base_img_size"),
        (1076, "bitmap_offset"),
        (1084, "bitmap_size"),
        (1100, "max_outstanding_copy_on_read_data"),
        (2152, "prefetch_profile_offset"),
        (2160, "prefetch_profile_entries"),
        (2212, "table_offset"),
        (2220, "chunk_size"),
        (2228, "storage_grow_unit"),
        (4284, "journal_offset"),
        (4292, "journal_size"),
    ] {
        let error = refusal(offset, &(-512i64).to_le_bytes());
        assert_eq!(error, FormatError::Negative { field, value: -512 });
    }
}

const TEXTS: [(usize, usize, &str); 6] = [
    (28, 1024, "base_img"),
    (1052, 16, "base_img_fmt"),
    (1108, 1024, "data_file"),
    (2132, 16, "data_file_fmt"),
    (2236, 2048, "add_storage_cmd"),
    (4320, 16, "write_updates_base_img"),
];

#[test]
fn each_text_without_nul_is_refused_by_name() {
    for (offset, len, field) in TEXTS {
        assert_eq!(
            refusal(offset, &vec![b'a'; len]),
            FormatError::NoNul { field }
        );
    }
}

#[test]
fn each_text_that_is_not_utf8_is_refused_by_name() {
    for (offset, _, field) in TEXTS {
        let value = "a\u{FFFD}".to_owned();
        assert_eq!(
            refusal(offset, b"a\xFF\0"),
            FormatError::NotUtf8 { field, value }
        );
    }
}

#[test]
fn a_half_changed_name_is_refused_and_says_which_update_to_repeat() {
    for (offset, name, field) in [
        (28, "base_img", Field::BaseImg),
        (1108, "data_file", Field::DataFile),
    ] {
        // the mark stands over whatever mixture of two names is there, even one without end
        let bytes = with(offset, &[[1].as_slice(), &[b'a'; 1023]].concat());
        let error = Header::decode(&bytes).unwrap_err();
        assert_eq!(error, FormatError::HalfChanged { field: name });
        assert!(
            error
                .to_string()
                .ends_with(&format!("`fvd update {name}=...`")),
            "{error}"
        );

        let header = Header::decode_to_repeat(&bytes, field).unwrap();
        assert_eq!(
            header.base_img.clone() + &header.data_file,
            HALF_CHANGED_NAME
        );
        let again = header.encode().unwrap();
        assert_eq!(
            Header::decode(&*again),
            Err(error.clone()),
            "the mark stays"
        );
        let other = if name == "base_img" {
            Field::DataFile
        } else {
            Field::BaseImg
        };
        assert_eq!(Header::decode_to_repeat(&bytes, other), Err(error));
    }
}

#[test]
fn write_updates_base_img_is_one_of_four_texts() {
    for (text, mode) in [
        ("\0", WriteUpdatesBase::No),
        ("no\0", WriteUpdatesBase::No),
        ("writethrough\0", WriteUpdatesBase::Writethrough),
        ("writeback\0", WriteUpdatesBase::Writeback),
        ("writenocache\0", WriteUpdatesBase::Writenocache),
    ] {
        let header = Header::decode(&with(4320, text.as_bytes())).unwrap();
        assert_eq!(header.write_updates_base_img, mode);
    }
    let error = refusal(4320, b"maybe\0");
    let text = "write_updates_base_img: bad value \"maybe\"; \
                allowed: no, writethrough, writeback, writenocache";
    assert_eq!(error.to_string(), text);
}

#[test]
fn what_follows_a_nul_means_nothing_and_any_bool_that_is_not_zero_is_true() {
    let header = Header::decode(&with(28, b"base.raw\0\xFF\x01garbage")).unwrap();
    assert_eq!(header.base_img, "base.raw");
    assert!(
        Header::decode(&with(4300, &[0, 0, 0, 0x80]))
            .unwrap()
            .clean_shutdown
    );
}

#[test]
fn delays_are_signed() {
    let header = Header::decode(&with(2148, &[0xFF; 4])).unwrap();
    assert_eq!(header.prefetch_start_delay, -1);
    let header = Header::decode(&with(4316, &[0xFE, 0xFF, 0xFF, 0xFF])).unwrap();
    assert_eq!(header.profile_directed_prefetch_start_delay, -2);
}

#[test]
fn a_text_that_would_not_be_read_back_is_not_written() {
    let encode = |base_img: String| {
        Header {
            base_img,
            ..Header::default()
        }
        .encode()
        .map(|_| ())
    };
    assert_eq!(encode("a".repeat(1023)), Ok(()));
    let value = "a".repeat(1024);
    let error = FormatError::TextTooLong {
        field: "base_img",
        value,
        len: 1024,
        max: 1023,
    };
    assert_eq!(encode("a".repeat(1024)), Err(error));
    for value in ["a\0b".to_owned(), format!("{HALF_CHANGED_NAME}a")] {
        let error = FormatError::BadText {
            field: "base_img",
            value: value.clone(),
        };
        assert_eq!(encode(value), Err(error));
    }
    let header = Header {
        data_file_fmt: "a".repeat(16),
        ..Header::default()
    };
    let error = header.encode().unwrap_err().to_string();
    assert_eq!(
        error,
        "data_file_fmt has 16 bytes, but may have at most 15: \"aaaaaaaaaaaaaaaa\""
    );
}

#[test]
fn a_size_that_would_read_as_negative_is_not_written() {
    let header = Header {
        journal_size: 1 << 63,
        ..Header::default()
    };
    let error = header.encode().unwrap_err();
    assert!(
        matches!(
            error,
            FormatError::TooLarge {
                field: "journal_size",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn a_change_touches_few_sectors() {
    let old = Header::default();
    let changed = |new: &Header| {
        let (old, new) = (old.encode().unwrap(), new.encode().unwrap());
        changed_sectors(&old, &new).collect::<Vec<_>>()
    };
    assert!(changed(&old).is_empty());
    assert_eq!(
        changed(&Header {
            clean_shutdown: true,
            ..old.clone()
        }),
        [8]
    );
    assert_eq!(
        changed(&Header {
            base_img: "a".repeat(483),
            ..old.clone()
        }),
        [0]
    );
    assert_eq!(
        changed(&Header {
            base_img: "a".repeat(485),
            ..old.clone()
        }),
        [0, 1]
    );

    assert_eq!(sectors(Field::BaseImg), 0..3);
    assert_eq!(sectors(Field::CleanShutdown), 8..9);
    assert_eq!(first_sector_room(Field::BaseImg), 484);
    assert_eq!(first_sector_room(Field::DataFile), 428);
    assert_eq!(first_sector_room(Field::CleanShutdown), 4);
}

proptest! {
    #[test]
    fn headers_round_trip(header in arbitrary_header()) {
        let bytes = header.encode().unwrap();
        prop_assert_eq!(Header::decode(&*bytes).unwrap(), header);
        prop_assert!(bytes[Header::FIELDS_LEN..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let _ = Header::decode(&bytes);
        for (place, magic) in bytes.iter_mut().zip([0xA9, 0xF5, 0x43, 0x51, 1, 0, 0, 0]) {
            *place = magic;
        }
        let _ = Header::decode(&bytes);
        let _ = Header::decode_to_repeat(&bytes, Field::BaseImg);
    }
}
