//! Names inside an image: what an image asks to be opened, and whether it may.
//!
//! An image is input from a stranger. A name in its header is followed only as far as the open
//! options say (DESIGN.md, "What the library never does on an image's word"); the refusal says
//! which name it was and which option would allow it. That no symbolic link leads out of the folder
//! only the host can see, so the folder goes along with the request.

use std::path::{Component, Path, PathBuf};

use crate::host::{Access, OpenRequest, Role};

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
    name: String,
    /// The folder that it must not leave.
    beneath: Option<String>,
}

impl Named {
    /// A name that a user gave for the image `image`: relative to the image's folder, and free to
    /// leave it.
    pub(super) fn by_user(image: &str, name: &str) -> Self {
        Self {
            name: text(&folder_of(image).join(name)),
            beneath: None,
        }
    }

    /// A name that a user gave for this session: relative to the process.
    pub(super) fn as_given(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            beneath: None,
        }
    }

    /// The name in the header field `field` of the image `image`, if it may be followed.
    pub(super) fn in_header(image: &str, field: &str, name: &str, follow: Follow) -> Result<Self> {
        let folder = folder_of(image);
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
            Follow::SameDir => Some(text(&folder)),
            Follow::Any => None,
        };
        Ok(Self {
            name: text(&path),
            beneath,
        })
    }

    /// True if it is the image itself.
    pub(super) fn is(&self, image: &str) -> bool {
        Path::new(&self.name)
            == folder_of(image).join(Path::new(image).file_name().unwrap_or_default())
    }

    /// The request to open it.
    pub(super) fn request(self, role: Role, access: Access) -> OpenRequest {
        OpenRequest {
            role,
            name: self.name,
            beneath: self.beneath,
            access,
        }
    }
}

fn folder_of(image: &str) -> PathBuf {
    match Path::new(image).parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
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
            let named = Named::in_header(image, "base_img", name, Follow::SameDir).unwrap();
            assert_eq!(named.name, expected);
            assert!(named.beneath.is_some());
        }
    }

    #[test]
    fn an_image_is_known_by_another_spelling_of_its_name() {
        assert!(Named::by_user("i.fvd", "./i.fvd").is("i.fvd"));
        assert!(Named::by_user("a/i.fvd", "i.fvd").is("a/i.fvd"));
        assert!(!Named::by_user("a/i.fvd", "b").is("a/i.fvd"));
    }

    #[test]
    fn names_that_lead_out_are_refused_and_the_option_is_named() {
        for name in ["../base.raw", "/etc/shadow", "sub/../../base.raw"] {
            let image = "a/i.fvd";
            let error = Named::in_header(image, "base_img", name, Follow::SameDir).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Refused);
            let message = error.to_string();
            assert!(
                message.contains(name) && message.contains("follow=any"),
                "{message}"
            );
            assert!(Named::in_header(image, "base_img", name, Follow::Any).is_ok());
        }
        assert!(Named::in_header("a/i.fvd", "data_file", "d", Follow::None).is_err());
    }
}
