//! Feeds as routers see them: checked by the programs that routers and their relatives have for it.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use super::super::tests::Directory;
use super::*;

const TIME: u32 = 1_700_000_000;
const ARCHES: [&str; 2] = ["mips_24kc", "x86_64"];

fn keys() -> Keys {
    Keys::from_random(&std::array::from_fn(|index| index as u8 + 1)).unwrap()
}

fn recipe(name: &str) -> recipe::Package {
    recipe::Package {
        name: name.to_owned(),
        arch: (name == "shared").then(|| ipk::ALL.to_owned()),
        ..recipe::read("sluice", b"agent", TIME).unwrap()
    }
}

/// Two packages for each architecture and one for all, in both formats, and the feeds of them.
fn feeds(directory: &Path) -> BTreeMap<String, usize> {
    let from = directory.join("from");
    for arch in ARCHES {
        for package in ["sluice", "another", "shared"].map(recipe) {
            let ipk = (ipk::name(&package, arch), ipk::build(&package, arch).unwrap());
            let apk = (apk::name(&package, arch), apk::build(&package, arch).unwrap());
            for (name, bytes) in [ipk, apk] {
                write(&from.join(name), &bytes).unwrap();
            }
        }
    }
    build(&keys(), &from, &directory.join("to")).unwrap()
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Whether a program succeeds.
fn works(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

#[test]
fn each_architecture_has_a_feed_with_its_packages_and_those_for_all() {
    let directory = Directory::new("feeds");
    let found = feeds(directory.path());
    assert_eq!(found, ARCHES.map(|arch| (arch.to_owned(), 6)).into());
    let version = recipe("shared").version;
    let mut expected: Vec<String> = ["another", "sluice"]
        .iter()
        .flat_map(|name| [format!("{name}-{version}.apk"), format!("{name}_{version}_x86_64.ipk")])
        .collect();
    expected.extend([format!("shared-{version}.apk"), format!("shared_{version}_all.ipk")]);
    expected.extend(["Packages", "Packages.gz", "Packages.sig", "packages.adb"].map(str::to_owned));
    expected.sort_unstable();
    let names = std::fs::read_dir(directory.path().join("to/x86_64")).unwrap();
    let mut names: Vec<String> =
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, expected);
}

#[test]
fn the_index_for_opkg_says_what_the_packages_say_and_what_they_weigh() {
    let directory = Directory::new("opkg-feed");
    feeds(directory.path());
    let feed = directory.path().join("to/mips_24kc");
    let text = String::from_utf8(read(&feed.join("Packages"))).unwrap();
    let unpacked = Command::new("gzip").args(["-dc", "Packages.gz"]).current_dir(&feed).output();
    assert_eq!(String::from_utf8(unpacked.unwrap().stdout).unwrap(), text);
    assert!(text.ends_with("\n\n"), "opkg wants an empty line behind each package");
    let mut found = Vec::new();
    for package in text.trim_end().split("\n\n") {
        let field = |name: &str| {
            package.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
        };
        assert!(package.lines().last().unwrap().starts_with("Description: "), "{package}");
        let file = feed.join(field("Filename"));
        assert_eq!(field("Size"), read(&file).len().to_string());
        let sum = Command::new("sha256sum").arg(&file).output().unwrap();
        let sum = String::from_utf8(sum.stdout).unwrap();
        assert_eq!(sum.split(' ').next().unwrap(), field("SHA256sum"));
        assert!(field("Depends").contains("kmod-nft-queue"));
        found.push((field("Package").to_owned(), field("Architecture").to_owned()));
    }
    let package = |name: &str, arch: &str| (name.to_owned(), arch.to_owned());
    assert_eq!(
        found,
        [package("another", ARCHES[0]), package("shared", "all"), package("sluice", ARCHES[0])]
    );
}

/// signify is what usign is made after; routers ask theirs with the same arguments.
#[test]
fn signify_takes_the_index_for_opkg_and_no_other() {
    let directory = Directory::new("signify");
    feeds(directory.path());
    let at = directory.path();
    let feed = at.join("to/mips_24kc");
    keys().save(at).unwrap();
    let Some(signify) = run::find("signify-openbsd") else {
        println!("SKIPPED: no signify-openbsd");
        return;
    };
    let takes = |message: &Path| {
        let mut command = Command::new(&signify);
        command.args(["-V", "-q", "-p"]).arg(at.join(keys::OPKG_PUBLIC));
        works(command.arg("-x").arg(feed.join("Packages.sig")).arg("-m").arg(message))
    };
    assert!(takes(&feed.join("Packages")));
    let changed =
        String::from_utf8(read(&feed.join("Packages"))).unwrap().replacen("sluice", "sluicy", 1);
    write(&at.join("changed"), changed.as_bytes()).unwrap();
    assert!(!takes(&at.join("changed")));
    // It also signs with the secret that was written, and to the same effect.
    let mut command = Command::new(&signify);
    command.arg("-S").arg("-s").arg(at.join(keys::OPKG_SECRET));
    let signature = at.join("signature");
    assert!(works(command.arg("-x").arg(&signature).arg("-m").arg(feed.join("Packages"))));
    let last =
        |path: &Path| String::from_utf8(read(path)).unwrap().lines().last().unwrap().to_owned();
    assert_eq!(last(&signature), last(&feed.join("Packages.sig")));
}

/// The index, its signature block, and the tree that is signed.
fn parts(bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let packed = bytes.strip_prefix(b"ADBd").unwrap();
    let plain = miniz_oxide::inflate::decompress_to_vec(packed).unwrap();
    let rest = plain.strip_prefix(b"ADB.indx").unwrap();
    let size = u32::from_le_bytes(rest[..4].try_into().unwrap()) as usize;
    let tree = rest[4..size].to_vec();
    let rest = &rest[size.next_multiple_of(8)..];
    let word = u32::from_le_bytes(rest[..4].try_into().unwrap());
    assert_eq!(word >> 30, 1, "a signature");
    (tree, rest[4..(word & 0x3fff_ffff) as usize].to_vec())
}

#[test]
fn openssl_takes_the_index_for_apk_and_no_other() {
    let directory = Directory::new("openssl");
    feeds(directory.path());
    let at = directory.path();
    keys().save(at).unwrap();
    let (tree, signature) = parts(&read(&at.join("to/x86_64/packages.adb")));
    assert_eq!(signature[..2], [0, 4], "version 0, SHA-512");
    let public = Command::new("openssl")
        .args(["pkey", "-pubin", "-outform", "DER", "-in"])
        .arg(at.join(keys::APK_PUBLIC))
        .output()
        .unwrap();
    let point = public.stdout.last_chunk::<65>().unwrap();
    let id = sha2::Digest::finalize(sha2::Digest::chain_update(
        <sha2::Sha512 as sha2::Digest>::new(),
        point,
    ));
    assert_eq!(signature[2..18], id[..16], "by which apk finds the key");
    let takes = |tree: &[u8]| {
        let digest = <sha2::Sha512 as sha2::Digest>::digest(tree);
        write(&at.join("message"), &[b"indx", &signature[..18], &digest[..]].concat()).unwrap();
        write(&at.join("signature"), &signature[18..]).unwrap();
        let mut command = Command::new("openssl");
        command.current_dir(at).args(["dgst", "-sha512", "-verify", keys::APK_PUBLIC]);
        works(command.args(["-signature", "signature", "message"]))
    };
    assert!(takes(&tree));
    let mut changed = tree;
    *changed.last_mut().unwrap() ^= 1;
    assert!(!takes(&changed));
}

/// What `apk mkndx --compression none` of apk-tools 3.0.6 writes for the same packages has this digest.
#[test]
fn the_index_for_apk_has_the_bytes_that_apk_tools_write() {
    let file = |path: &str, mode, content: &str| recipe::File {
        path: path.to_owned(),
        mode,
        content: content.as_bytes().to_vec(),
    };
    let entries = ["example", "other"].map(|name| {
        let package = recipe::Package {
            version: "1.2.3-r4".to_owned(),
            description: "An example".to_owned(),
            depends: vec!["one".to_owned(), "two".to_owned()],
            files: vec![file("/usr/bin/one", 0o755, &"1".repeat(300))],
            conffiles: Vec::new(),
            postinst: None,
            postrm: None,
            ..recipe(name)
        };
        let plain = apk::plain(&package, "mips_24kc").unwrap();
        if let Some(directory) = std::env::var_os("KEEP_PACKAGES") {
            write(&Path::new(&directory).join(format!("{name}-1.2.3-r4.apk")), &plain).unwrap();
        }
        adb::read(&plain).unwrap()
    });
    let plain = adb::plain(&adb::tree(&entries.each_ref()).unwrap()).unwrap();
    let digest = "160828858ae2447b04c4b5e0371f7dd21646e2d0d2471261234db018ac179cd5";
    assert_eq!(apk::hex(&<sha2::Sha256 as sha2::Digest>::digest(plain)), digest);
}

#[test]
fn keys_are_not_lost_nor_shown_to_others() {
    let directory = Directory::new("keys");
    let at = directory.path();
    keys().save(at).unwrap();
    for (name, mode) in [
        (keys::OPKG_SECRET, 0o600),
        (keys::APK_SECRET, 0o600),
        (keys::OPKG_PUBLIC, 0o644),
        (keys::APK_PUBLIC, 0o644),
    ] {
        let path = at.join(name);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
    assert_eq!(Keys::load(at).unwrap().sign_opkg(b"1"), keys().sign_opkg(b"1"));
    assert_eq!(Keys::load(at).unwrap().sign_apk(b"1").unwrap(), keys().sign_apk(b"1").unwrap());
    assert!(keys().save(at).is_err(), "keys were replaced");
    assert_ne!(Keys::random().unwrap().opkg_name(), Keys::random().unwrap().opkg_name());

    // As `openssl ecparam -genkey` writes them.
    let mut command = Command::new("openssl");
    command.current_dir(at).args(["ec", "-out", "sec1.pem", "-in", keys::APK_SECRET]);
    assert!(works(&mut command));
    std::fs::rename(at.join("sec1.pem"), at.join(keys::APK_SECRET)).unwrap();
    assert!(String::from_utf8(read(&at.join(keys::APK_SECRET))).unwrap().contains("BEGIN EC"));
    assert_eq!(Keys::load(at).unwrap().sign_apk(b"1").unwrap(), keys().sign_apk(b"1").unwrap());

    // One bit of a secret is another.
    let path = at.join(keys::OPKG_SECRET);
    let text = String::from_utf8(read(&path)).unwrap();
    let end = text.len() - 10;
    let other = if &text[end..=end] == "A" { "B" } else { "A" };
    std::fs::write(&path, format!("{}{other}{}", &text[..end], &text[end + 1..])).unwrap();
    assert!(Keys::load(at).is_err());
}

#[test]
fn nothing_is_written_when_a_package_is_none() {
    let directory = Directory::new("damaged");
    feeds(directory.path());
    let (from, to) = (directory.path().join("from"), directory.path().join("again"));
    let version = recipe("sluice").version;
    for name in [format!("sluice_{version}_x86_64.ipk"), format!("x86_64/sluice-{version}.apk")] {
        let good = read(&from.join(&name));
        for bad in [&good[..good.len() / 2], b"", b"PK"] {
            std::fs::write(from.join(&name), bad).unwrap();
            let error = build(&keys(), &from, &to).unwrap_err();
            assert!(format!("{error:#}").contains(&name), "{error:#}");
        }
        std::fs::write(from.join(&name), good).unwrap();
    }
    std::fs::write(
        from.join("other-name.apk"),
        read(&from.join(format!("x86_64/sluice-{version}.apk"))),
    )
    .unwrap();
    let error = format!("{:#}", build(&keys(), &from, &to).unwrap_err());
    assert!(error.contains("has to be named"), "{error}");
    assert!(!to.exists());
}
