//! One "name=value" of a text of options, and what its value may be.
//!
//! What can be given stands in a list of [`OptionInfo`], once: the help prints it, a value is
//! checked against it, and an error quotes it.

use std::fmt;
use std::str::FromStr;

use super::error::FormatError;
use super::header::WriteUpdatesBase;
use super::units::parse_size;

/// An option or attribute that can be given, for help and for checks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OptionInfo {
    /// Its name.
    pub name: &'static str,
    /// What its value may be.
    pub kind: OptionKind,
    /// What it does, in one line.
    pub help: &'static str,
    /// What holds where it is not given, as text; empty: nothing.
    pub default: &'static str,
}

/// A row of a list of options.
pub(crate) const fn row(
    name: &'static str,
    kind: OptionKind,
    help: &'static str,
    default: &'static str,
) -> OptionInfo {
    OptionInfo {
        name,
        kind,
        help,
        default,
    }
}

/// What a value may be. [`fmt::Display`] says it to people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OptionKind {
    /// on, off, yes, no, true or false.
    Bool,
    /// A number of bytes, with or without a suffix.
    Size {
        /// The smallest one.
        min: u64,
        /// The largest one.
        max: u64,
    },
    /// A number of bytes, or a negative number for none at all.
    SizeOrNone,
    /// A whole number.
    Integer {
        /// The smallest one.
        min: i64,
        /// The largest one.
        max: i64,
    },
    /// Any text.
    Text,
    /// One of these texts.
    Choice(&'static [&'static str]),
}

impl fmt::Display for OptionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BYTES: &str = "bytes, or with a suffix K, M, G, T";
        match self {
            Self::Bool => f.write_str("on, off, yes, no, true, false"),
            Self::Size { min, max } => write!(f, "{min} to {max} {BYTES}"),
            Self::SizeOrNone => write!(f, "{BYTES}; 0: the default; below 0: none"),
            Self::Integer { min, max } => write!(f, "{min} to {max}"),
            Self::Text => f.write_str("a text"),
            Self::Choice(names) => f.write_str(&names.join(", ")),
        }
    }
}

/// A value, and the option that it is given for.
#[derive(Clone, Copy)]
pub(crate) struct Argument<'a> {
    pub(crate) name: &'static str,
    kind: OptionKind,
    value: &'a str,
}

impl<'a> Argument<'a> {
    /// Takes "name=value" apart; the name must be in `list`.
    pub(crate) fn parse(text: &'a str, list: &[OptionInfo]) -> Result<Self, FormatError> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let Some(info) = list.iter().find(|info| info.name == name) else {
            let names: Vec<_> = list.iter().map(|info| info.name).collect();
            let (name, allowed) = (name.to_owned(), names.join(", "));
            return Err(FormatError::UnknownOption { name, allowed });
        };
        let argument = Self {
            name: info.name,
            kind: info.kind,
            value,
        };
        if text.contains('=') {
            Ok(argument)
        } else {
            Err(argument.bad())
        }
    }

    pub(crate) fn bool(&self) -> Result<bool, FormatError> {
        match self.value {
            "on" | "yes" | "true" => Ok(true),
            "off" | "no" | "false" => Ok(false),
            _ => Err(self.bad()),
        }
    }

    pub(super) fn size<T: TryFrom<u64>>(&self) -> Result<T, FormatError> {
        let OptionKind::Size { min, max } = self.kind else {
            unreachable!("{} is no size", self.name)
        };
        let size = parse_size(self.value).filter(|size| (min..=max).contains(size));
        size.and_then(|size| T::try_from(size).ok())
            .ok_or_else(|| self.bad())
    }

    /// `None` where it is negative.
    pub(super) fn size_or_none(&self) -> Result<Option<u64>, FormatError> {
        let size = match self.value.strip_prefix('-') {
            Some(size) => parse_size(size).filter(|&size| size > 0).map(|_| None),
            None => parse_size(self.value).map(Some),
        };
        size.ok_or_else(|| self.bad())
    }

    pub(super) fn integer<T: TryFrom<i64>>(&self) -> Result<T, FormatError> {
        let OptionKind::Integer { min, max } = self.kind else {
            unreachable!("{} is no integer", self.name)
        };
        let value = i64::from_str(self.value)
            .ok()
            .filter(|value| (min..=max).contains(value));
        value
            .and_then(|value| T::try_from(value).ok())
            .ok_or_else(|| self.bad())
    }

    pub(crate) fn text(&self) -> String {
        self.value.to_owned()
    }

    pub(super) fn write_updates_base(&self) -> Result<WriteUpdatesBase, FormatError> {
        WriteUpdatesBase::from_name(self.value).ok_or_else(|| self.bad())
    }

    /// One of the texts that the option takes.
    pub(crate) fn choice(&self) -> Result<&'static str, FormatError> {
        let OptionKind::Choice(names) = self.kind else {
            unreachable!("{} is no choice", self.name)
        };
        let name = names.iter().find(|name| **name == self.value);
        name.copied().ok_or_else(|| self.bad())
    }

    fn bad(&self) -> FormatError {
        FormatError::BadValue {
            name: self.name,
            value: self.value.to_owned(),
            allowed: self.kind.to_string(),
        }
    }
}

/// The items of "name=value,name=value"; a doubled comma stands for one that is part of a value.
pub(crate) fn split(text: &str) -> Vec<String> {
    let mut items = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        if char == ',' && chars.next_if_eq(&',').is_none() {
            items.push(String::new());
        } else if let Some(item) = items.last_mut() {
            item.push(char);
        }
    }
    items.retain(|item| !item.is_empty());
    items
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubled_comma_is_part_of_the_value() {
        assert_eq!(split("a=1,b=x,,y,"), ["a=1", "b=x,y"]);
        assert!(split("").is_empty());
    }

    #[test]
    fn every_kind_can_be_told_to_people() {
        let kind = OptionKind::Size { min: 1, max: 9 };
        assert_eq!(
            kind.to_string(),
            "1 to 9 bytes, or with a suffix K, M, G, T"
        );
        assert_eq!(OptionKind::Choice(&["a", "b"]).to_string(), "a, b");
    }
}
