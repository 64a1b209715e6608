//! Who may ask the agent: other users, each in a process of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::rc::Rc;

use nix::unistd::{Gid, geteuid};
use sluice::control::server::{Methods, Server};
use sluice::control::{Answer, Request, socket_path};
use smol::{LocalExecutor, future};

/// Members of this group may read; it needs no name.
const GROUP: u32 = 4_242;
/// A user and its group without rights.
const NOBODY: &str = "65534";

struct Answers;

impl Methods for Answers {
    fn call(&self, request: Request) -> Result<Answer, String> {
        match request {
            Request::Flows {} => Answer::new(&[(); 0]),
            Request::Reload {} => Answer::new(&()),
            _ => Err("not that".to_owned()),
        }
    }
}

/// A directory that every user may enter, with a copy of the command.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("sluice-users-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
        fs::copy(env!("CARGO_BIN_EXE_sluice"), dir.join("sluice")).unwrap();
        Self(dir)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// `sluice COMMAND` as another user: exit code and what it said.
fn ask(dir: &Path, ids: &[&str], command: &str) -> (Option<i32>, String) {
    let mut setpriv = Command::new("setpriv");
    setpriv.args(ids).arg("--").arg(dir.join("sluice"));
    setpriv.arg("--socket").arg(socket_path(&dir.join("run"))).arg(command);
    let Output { status, stderr, .. } = setpriv.output().expect("setpriv of util-linux");
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// R196: the modes keep strangers out, and where they do not the kernel's word about the peer does.
#[test]
fn reports_are_for_members_of_the_group_and_changes_for_root() {
    if !geteuid().is_root() {
        println!("SKIPPED: needs root to become another user");
        return;
    }
    let dir = Dir::new();
    let run = dir.0.join("run");
    let server = Server::open_for(&run, Some(Gid::from_raw(GROUP))).unwrap();
    let executor = LocalExecutor::new();
    let path = dir.0.clone();
    let clients = smol::unblock(move || {
        let (group, nobody) = (GROUP.to_string(), NOBODY);
        let stranger = ["--reuid", nobody, "--regid", nobody, "--clear-groups"];
        let member = ["--reuid", nobody, "--regid", &group, "--clear-groups"];
        let supplementary = ["--reuid", nobody, "--regid", nobody, "--groups", &group];
        let other = ["--reuid", nobody, "--regid", nobody, "--groups", "4243"];
        let root = ["--reuid", "0", "--regid", "0", "--clear-groups"];

        let (code, said) = ask(&path, &stranger, "flows");
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("not allowed to open"), "the modes: {said}");

        // Without the modes: the same answers from the credentials.
        let run = path.join("run");
        fs::set_permissions(&run, fs::Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(socket_path(&run), fs::Permissions::from_mode(0o666)).unwrap();
        for (who, ids, reads) in [
            ("stranger", &stranger[..], false),
            ("member of another group", &other[..], false),
            ("member by its own group", &member[..], true),
            ("member by a supplementary group", &supplementary[..], true),
            ("root", &root[..], true),
        ] {
            let (code, said) = ask(&path, ids, "flows");
            assert_eq!(code, Some(if reads { 0 } else { 5 }), "{who}: {said}");
            assert_eq!(said.contains("members of group sluice may ask"), !reads, "{who}: {said}");
        }
        let (code, said) = ask(&path, &member, "reload");
        assert_eq!(code, Some(5), "{said}");
        assert!(said.contains("only root may change something"), "{said}");
        let (code, said) = ask(&path, &root, "reload");
        assert_eq!(code, Some(0), "{said}");
    });
    future::block_on(executor.run(async {
        future::or(clients, async {
            let error = server.serve(&executor, Rc::new(Answers)).await;
            panic!("the server ended: {error}");
        })
        .await;
    }));
}
