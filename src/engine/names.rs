//! Names inside an image: what an image asks to be opened, and whether it may.
//!
//! An image is input from a stranger. A name in its header is followed only as far as the open options say
//! (DESIGN.md, "What the library never does on an image's word"); the refusal says which name it was and
//! which option would allow it. That no symbolic link leads out of the folder only the host can see, so
//! the folder goes along with the request.

use std::path::{Component, Path, PathBuf};

use super::error::{Error, ErrorKind, Result};

/// How far names inside an image are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Follow {
    /// Not at all.
    None,
    /// Within the image's own folder: no "..", no symbolic link.
    #[default]
    SameDir,
    /// Wherever they lead.
    Any,
}

/// A name to open.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) name: String,
    /// The folder that it must not leave.
    pub(super) beneath: Option<String>,
}

/// The file that the header field `field` of the image `image` names.
pub(super) fn follow(image: &str, field: &str, name: &str, follow: Follow) -> Result<Named> {
    let folder = match Path::new(image).parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    let path = folder.join(name);
    let beneath = match follow {
        Follow::None => return Err(refused(image, field, name, "follow=none forbids it")),
        Follow::SameDir if !is_within(&path, &folder) => {
            return Err(refused(
                image,
                field,
                name,
                "it is not in the image's own folder",
            ));
        }
        Follow::SameDir => Some(folder.to_string_lossy().into_owned()),
        Follow::Any => None,
    };
    Ok(Named {
        name: path.to_string_lossy().into_owned(),
        beneath,
    })
}

fn is_within(path: &Path, folder: &Path) -> bool {
    let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
    path.strip_prefix(folder)
        .is_ok_and(|rest| rest.components().all(plain))
}

fn refused(image: &str, field: &str, name: &str, why: &str) -> Error {
    let ask = format!("'{image}' asks for {field} '{name}', but {why}");
    let hint = match field {
        "base_img" => "open it with follow=any to allow that, or with base=FILE to name another",
        _ => "open it with follow=any to allow that",
    };
    Error::new(ErrorKind::Refused, format!("{ask}; {hint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_inside_the_folder_are_followed_by_default() {
        for (image, name, expected) in [
            ("a/i.fvd", "base.raw", "a/base.raw"),
            ("i.fvd", "sub/base.raw", "./sub/base.raw"),
            ("/a/i.fvd", "/a/b/base.raw", "/a/b/base.raw"),
        ] {
            let named = follow(image, "base_img", name, Follow::SameDir).unwrap();
            assert_eq!(named.name, expected);
            assert!(named.beneath.is_some());
        }
    }

    #[test]
    fn names_that_lead_out_are_refused_and_the_option_is_named() {
        for name in ["../base.raw", "/etc/shadow", "sub/../../base.raw"] {
            let error = follow("a/i.fvd", "base_img", name, Follow::SameDir).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            let message = error.to_string();
            assert!(
                message.contains(name) && message.contains("follow=any"),
                "{message}"
            );
            assert!(follow("a/i.fvd", "base_img", name, Follow::Any).is_ok());
        }
        assert!(follow("a/i.fvd", "data_file", "d", Follow::None).is_err());
    }
}
