//! Sizes as people write and read them, and the lists that `-o help` prints.

use std::io::{Result, Write};

use fvd::format::options::OptionInfo;
use fvd::format::units::parse_size;

/// A size argument: bytes, or with a suffix K, M, G or T.
pub(crate) fn size(text: &str) -> std::result::Result<u64, String> {
    parse_size(text).ok_or_else(|| {
        "a size is a whole number of bytes, or of K, M, G or T (1024 each), as in 64K".to_owned()
    })
}

/// A size to read: exact where a unit divides it, else with one digit after the point.
pub(crate) fn human(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let Some(power) = (1..=units.len())
        .rev()
        .find(|power| bytes >= 1 << (10 * power))
    else {
        return format!("{bytes} bytes");
    };
    let (unit, name) = (1u64 << (10 * power), units[power - 1]);
    if bytes.is_multiple_of(unit) {
        format!("{} {name}", bytes / unit)
    } else {
        // Tenths, without losing the high bits of a large size.
        let tenths = u128::from(bytes) * 10 / u128::from(unit);
        format!("{}.{} {name}", tenths / 10, tenths % 10)
    }
}

/// Prints what can be given, with type, help and default.
pub(crate) fn list_options(out: &mut dyn Write, options: &[OptionInfo]) -> Result<()> {
    for option in options {
        writeln!(out, "{}=VALUE", option.name)?;
        writeln!(out, "    {}", option.help)?;
        writeln!(out, "    value: {}", option.kind)?;
        if !option.default.is_empty() {
            writeln!(out, "    default: {}", option.default)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_exact_where_they_can_be() {
        assert_eq!(human(0), "0 bytes");
        assert_eq!(human(1023), "1023 bytes");
        assert_eq!(human(65536), "64 KiB");
        assert_eq!(human(1536), "1.5 KiB");
        assert_eq!(human((1 << 30) - 1), "1023.9 MiB");
        assert_eq!(human(u64::MAX), "15.9 EiB");
        assert_eq!(size("10G"), Ok(10 << 30));
        assert!(size("ten").unwrap_err().contains("64K"));
    }
}
