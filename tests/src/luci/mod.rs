//! The pages for LuCI in a real browser: a double of LuCI's own scripts, a stand-in for uhttpd and
//! rpcd in front of the test bus, and Chromium.

pub mod browser;
pub mod rpcd;
pub mod sample;
pub mod strings;
mod uci;

use std::path::{Path, PathBuf};

/// The package of the pages.
#[must_use]
pub fn package() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../openwrt-package/luci-app-sluice")
}
