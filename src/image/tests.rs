//! What a broken engine still owes: the end of every request, and not before its I/O is over.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::rc::Rc;

use super::*;
use crate::host::file::FileHost;

unsafe extern "C" fn note(opaque: *mut c_void, result: c_int) {
    // SAFETY: the tests pass a list that outlives the image.
    let results = unsafe { &*opaque.cast::<RefCell<Vec<c_int>>>() };
    results.borrow_mut().push(result);
}

#[test]
fn a_poisoned_image_ends_its_requests_when_their_io_is_over_and_takes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().join("disk.fvd");
    let name = name.to_str().unwrap();
    let host: Rc<dyn Host> = Rc::new(FileHost::keeping_messages());
    let options = CreateOptions::parse("size=1M,compact_image=on").unwrap();
    Image::create(&host, name, &options).unwrap();
    let image = Image::open(&host, name, &OpenOptions::default()).unwrap();
    image.write_at(0, &[1; 512]).unwrap();

    let results = RefCell::new(Vec::<c_int>::new());
    let opaque = (&raw const results).cast_mut().cast();
    let callback = Callback { func: note, opaque };
    let mut bytes = [2; 512];
    let iov = libc::iovec {
        iov_base: bytes.as_mut_ptr().cast(),
        iov_len: 512,
    };
    // SAFETY: `iov` and `bytes` live to the end of the test.
    let iov = unsafe { IoVecs::from_raw(&raw const iov, 1) };
    for offset in [0, 524_288] {
        // SAFETY: as above.
        unsafe { image.submit_write(offset, iov, false, callback) }.unwrap();
    }
    image.poison();
    assert!(results.borrow().is_empty(), "told while I/O is under way");
    image.drain();
    assert_eq!(*results.borrow(), [-libc::EIO; 2]);
    assert_eq!(
        image.flush().unwrap_err().kind(),
        ErrorKind::Closed,
        "it takes no more requests"
    );
    drop(image);

    let image = Image::open(&host, name, &OpenOptions::default()).unwrap();
    image.read_at(524_288, &mut bytes).unwrap();
    assert_eq!(
        bytes, [0; 512],
        "what the engine had not published is not there"
    );
    image.close().unwrap();
}
