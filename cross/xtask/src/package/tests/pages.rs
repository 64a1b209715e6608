//! The package of LuCI's pages: the same for every router, nothing but files, and two programs that are told.

use super::router::Router;
use super::{ARCH, Directory, TIME, reader};
use crate::package::recipe::{self, Package};
use crate::package::{apk, ipk};
use crate::run;

const NAME: &str = "luci-app-sluice";
/// Reloads of rpcd are noted like those of other services.
const RPCD: &str = "#!/bin/sh\necho \"rpcd $*\" >>/calls\n";

fn pages() -> Package {
    recipe::read(NAME, &[], TIME).unwrap()
}

#[test]
fn pages_lie_where_luci_rpcd_and_the_web_server_look_for_them() {
    let package = pages();
    let has = |start: &str, end: &str| {
        let found = |path: &str| path.starts_with(start) && path.ends_with(end);
        package.files.iter().any(|file| file.mode == 0o644 && found(&file.path))
    };
    assert!(has("/www/luci-static/resources/view/sluice/", ".js"));
    assert!(has("/usr/share/luci/menu.d/", ".json"));
    assert!(has("/usr/share/rpcd/acl.d/", ".json"));
    assert_eq!(package.depends, ["luci-base", "sluice"]);
    // Both packages are there at once.
    let agent = super::package();
    let both = |path: &str| agent.files.iter().any(|file| file.path == path);
    assert_eq!(package.files.iter().find(|file| both(&file.path)).map(|file| &file.path), None);
}

#[test]
fn a_package_for_all_is_called_so_in_both_formats() {
    let package = pages();
    let version = &package.version;
    assert_eq!(ipk::name(&package, ARCH), format!("{NAME}_{version}_all.ipk"));
    assert_eq!(apk::name(&package, ARCH), format!("noarch/{NAME}-{version}.apk"));
    let directory = Directory::new("pages");
    reader::unpack_ipk(&ipk::build(&package, ARCH).unwrap(), directory.path());
    let control = directory.path().join("control");
    let fields = std::fs::read_to_string(control.join("control")).unwrap();
    assert!(fields.contains("\nArchitecture: all\n"), "{fields}");
    assert!(!fields.contains("Require-User"), "{fields}");
    assert!(!control.join("conffiles").exists());
    let apk = reader::apk(&apk::build(&package, ARCH).unwrap());
    assert_eq!(apk.info["arch"], "noarch");
    assert_eq!(apk.depends, ["luci-base", "sluice"]);
    assert_eq!(recipe::for_all().unwrap(), [NAME]);
}

#[test]
fn rpcd_and_luci_hear_of_pages_that_come_and_go() {
    let Some(router) = Router::new("pages-life") else { return };
    router.write("etc/init.d/rpcd", RPCD, 0o755);
    let before = router.tree();
    let cached = || {
        router.write("tmp/luci-indexcache.1234.json", "{}", 0o600);
        router.write("tmp/luci-modulecache/one", "", 0o600);
    };
    let is_told = || {
        assert_eq!(router.take("calls"), "rpcd reload\n");
        let left = std::fs::read_dir(router.path("tmp")).unwrap().flatten();
        let names: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(names.iter().all(|name| !name.to_string_lossy().contains("luci")), "{names:?}");
    };
    cached();
    router.install_ipk_of(&pages());
    is_told();
    cached();
    router.remove_ipk_of(&pages());
    is_told();
    assert_eq!(router.tree(), before);

    cached();
    let apk = router.install_apk_of(&pages(), "post-install");
    is_told();
    cached();
    router.remove_apk(&apk);
    is_told();
    assert_eq!(router.tree(), before);
}

#[test]
fn pages_of_an_image_that_is_built_tell_nobody() {
    let Some(router) = Router::new("pages-image") else { return };
    router.write("etc/init.d/rpcd", RPCD, 0o755);
    router.install_ipk_of(&pages());
    router.take("calls");
    router.write("image/lib/functions.sh", router.read("lib/functions.sh"), 0o755);
    let info = format!("/usr/lib/opkg/info/{NAME}");
    router.quiet(&format!("IPKG_INSTROOT=/image {info}.postinst configure"));
    router.quiet(&format!("IPKG_INSTROOT=/image {info}.postrm remove"));
    router.quiet(&format!("{info}.postrm upgrade"));
    assert_eq!(router.take("calls"), "");
}

#[test]
fn the_makefile_of_the_feed_says_what_the_recipe_says() {
    let makefile = run::root().join("openwrt-package").join(NAME).join("Makefile");
    let makefile = std::fs::read_to_string(makefile).unwrap();
    let value = |name: &str| {
        let line = makefile.lines().map(str::trim).find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.strip_prefix(":=")).unwrap_or("none")
    };
    let package = pages();
    assert_eq!(format!("{}-r{}", value("PKG_VERSION"), value("PKG_RELEASE")), package.version);
    assert_eq!(value("PKG_LICENSE"), package.licence);
    assert_eq!(value("LUCI_TITLE"), package.description);
    assert_eq!(Some(value("LUCI_PKGARCH")), package.arch.as_deref());
    let mut depends: Vec<&str> =
        value("LUCI_DEPENDS").split(' ').filter_map(|word| word.strip_prefix('+')).collect();
    depends.sort_unstable();
    assert_eq!(depends, package.depends);
    super::assert_script_in(&makefile, "postrm", &package.postrm.unwrap());
    // luci.mk installs these two directories, whatever is in them, and has a postinst of its own.
    let text = std::fs::read_to_string(
        run::root().join("openwrt-package").join(NAME).join("package.toml"),
    );
    let text = text.unwrap();
    for place in ["path = \"/www\"\nsource = \"htdocs\"", "path = \"/\"\nsource = \"root\""] {
        assert!(text.contains(place), "{place}");
    }
}
