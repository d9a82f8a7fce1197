//! The commands of `fvd io`, as they are written.

use std::str::FromStr;

use crate::units::size;

/// What a write writes where no pattern is given.
const PATTERN: u8 = 0xcd;

/// One command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Write {
        pattern: u8,
        fua: bool,
        offset: u64,
        len: u64,
    },
    Read {
        pattern: Option<u8>,
        offset: u64,
        len: u64,
    },
    Flush,
    Info,
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let words = Words::parse(words)?;
        let command = match (verb, words.fua) {
            ("write", fua) => {
                let (offset, len) = words.range()?;
                Self::Write {
                    pattern: words.pattern.unwrap_or(PATTERN),
                    fua,
                    offset,
                    len,
                }
            }
            ("read", false) => {
                let (offset, len) = words.range()?;
                Self::Read {
                    pattern: words.pattern,
                    offset,
                    len,
                }
            }
            ("flush" | "info", _) if words != Words::default() => {
                return Err(format!("{verb} takes no arguments"));
            }
            ("flush", _) => Self::Flush,
            ("info", _) => Self::Info,
            ("read", true) => return Err("-f is for write".to_owned()),
            _ => return Err(format!("'{verb}' is none of write, read, flush, info")),
        };
        Ok(command)
    }
}

/// What stands behind the verb.
#[derive(Default, PartialEq, Eq)]
struct Words {
    pattern: Option<u8>,
    fua: bool,
    numbers: Vec<u64>,
}

impl Words {
    fn parse<'a>(mut words: impl Iterator<Item = &'a str>) -> Result<Self, String> {
        let mut found = Self::default();
        while let Some(word) = words.next() {
            match word {
                "-f" => found.fua = true,
                "-P" => found.pattern = Some(pattern(words.next().unwrap_or_default())?),
                word if word.starts_with('-') => return Err(format!("'{word}' is unknown")),
                word => found
                    .numbers
                    .push(size(word).map_err(|why| format!("'{word}': {why}"))?),
            }
        }
        Ok(found)
    }

    fn range(&self) -> Result<(u64, u64), String> {
        match self.numbers[..] {
            [offset, len] if offset.checked_add(len).is_some() => Ok((offset, len)),
            _ => Err("OFFSET and LEN are needed, as in 'read 4k 64k'".to_owned()),
        }
    }
}

fn pattern(text: &str) -> Result<u8, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u8::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| format!("-P takes a byte, as in 171 or 0xab, not '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_read_as_they_are_documented() {
        let write = |pattern, fua| Command::Write {
            pattern,
            fua,
            offset: 4096,
            len: 65536,
        };
        assert_eq!("write -P 0xab 4k 64k".parse(), Ok(write(0xab, false)));
        assert_eq!("write -f 4096 64K".parse(), Ok(write(PATTERN, true)));
        let read = Command::Read {
            pattern: Some(171),
            offset: 0,
            len: 512,
        };
        assert_eq!("read 0 512 -P 171".parse(), Ok(read));
        assert_eq!(" flush ".parse(), Ok(Command::Flush));
        assert_eq!("info".parse(), Ok(Command::Info));
    }

    #[test]
    fn what_is_wrong_with_a_command_is_named() {
        for (text, named) in [
            ("", "none of write"),
            ("erase 0 512", "'erase'"),
            ("write 0", "LEN"),
            ("write 0 1 2", "LEN"),
            ("write -P 256 0 512", "256"),
            ("write -P", "-P"),
            ("read -f 0 512", "-f"),
            ("read -q 0 512", "'-q'"),
            ("read x 512", "'x'"),
            ("read 16777215T 16777215T", "OFFSET"),
            ("flush 1", "flush takes no arguments"),
        ] {
            let error = text.parse::<Command>().unwrap_err();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
