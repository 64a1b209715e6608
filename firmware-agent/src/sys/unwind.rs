//! An unwinder that finds no frames, in the place of the one of 29 kB that `std` would link: the agent that xtask
//! builds for a router has no tables to unwind by, so that one finds none either. A panic says its place and ends the process.
//!
//! Names and arguments are those of the Itanium C++ ABI (Exception Handling, 1.2). All that `std` names is here: of one
//! that is missing the linker says that others are defined twice.

use std::ffi::{c_int, c_void};
use std::ptr::null;

/// A frame.
type Context = *mut c_void;

/// Why the walk over the frames ends: there are no more.
const END_OF_STACK: c_int = 5;

/// Calls of the function that panicked, for `RUST_BACKTRACE`.
// SAFETY: of this and the other names, nothing else that is linked defines one.
#[unsafe(no_mangle)]
const extern "C" fn _Unwind_Backtrace(_: *const c_void, _: *mut c_void) -> c_int {
    END_OF_STACK
}

/// What is asked of a frame that is there, and so never asked.
macro_rules! never_asked {
    ($($name:ident($($argument:ty),*) -> $result:ty = $value:expr;)*) => {$(
        // SAFETY: as above.
        #[unsafe(no_mangle)]
        const extern "C" fn $name($(_: $argument),*) -> $result {
            $value
        }
    )*};
}

never_asked! {
    _Unwind_GetIP(Context) -> usize = 0;
    _Unwind_GetIPInfo(Context, *mut c_int) -> *const c_void = null();
    _Unwind_GetLanguageSpecificData(Context) -> *const c_void = null();
    _Unwind_GetRegionStart(Context) -> *const c_void = null();
    _Unwind_GetTextRelBase(Context) -> *const c_void = null();
    _Unwind_GetDataRelBase(Context) -> *const c_void = null();
    _Unwind_SetGR(Context, c_int, *const c_void) -> () = ();
    _Unwind_SetIP(Context, *const c_void) -> () = ();
}
