//! A pseudo-terminal, for tests in several binaries.

use std::{
    fs::File,
    os::fd::{FromRawFd, OwnedFd},
};

/// Both ends of a new terminal: the screen, and the device that a program writes to.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let (mut screen, mut device) = (0, 0);
    let null = std::ptr::null_mut();
    // SAFETY: the descriptors that `openpty` returns are open and owned by nobody else.
    unsafe {
        assert_eq!(libc::openpty(&mut screen, &mut device, null, null.cast(), null.cast()), 0);
        // A child that inherits the screen would keep the terminal open.
        libc::fcntl(screen, libc::F_SETFD, libc::FD_CLOEXEC);
        (File::from_raw_fd(screen), OwnedFd::from_raw_fd(device))
    }
}
