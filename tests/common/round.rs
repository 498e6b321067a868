//! The usual course of a test: start, dump, restore, dump, restore, verify.

use super::criu::Criu;
use super::scene::Scene;

/// Who dumps and who restores, how often, and with which options.
pub struct Round<'a> {
    pub program: &'a str,
    pub args: &'a [&'a str],
    pub user: Option<u32>,
    pub dump: &'a [&'a str],
    pub restore: &'a [&'a str],
    pub dumper: Criu,
    pub restorer: Criu,
    pub times: u32,
}

impl<'a> Round<'a> {
    pub fn of(program: &'a str) -> Self {
        Self {
            program,
            args: &[],
            user: None,
            dump: &[],
            restore: &[],
            dumper: Criu::ours(),
            restorer: Criu::ours(),
            // The second dump sees what the first restore has built.
            times: 2,
        }
    }

    #[track_caller]
    pub fn run(self) {
        let mut scene = Scene::new(self.program);
        if let Some(user) = self.user {
            scene = scene.owned_by(user);
        }
        let mut task = scene.start(self.program, self.args);
        for time in 0..self.times {
            let images = scene.path(&format!("images-{time}"));
            let dumped = task.dump_with(&self.dumper, &images, self.dump);
            task = dumped.restore_with(&self.restorer, self.restore);
        }
        task.verify();
    }
}

#[track_caller]
pub fn round_trip(program: &str) {
    Round::of(program).run();
}

#[track_caller]
pub fn round_trip_as(program: &str, user: u32) {
    Round { user: Some(user), ..Round::of(program) }.run();
}
