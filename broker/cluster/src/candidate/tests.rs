//! When a broker may take what another one owned.

use super::*;

/// A candidate, what it reads, and a clock moved by hand.
struct Scene {
    me: Member,
    candidate: Candidate,
    own: Option<Own>,
    written: Option<SystemTime>,
    note: Option<MemberNote>,
    lock: Lock,
    start: Instant,
    ms: u64,
}

impl Scene {
    fn new(me: Member, takeover: Takeover, asked: bool, own: Option<Own>) -> Self {
        let candidate = Candidate::new(me.clone(), takeover, asked);
        Self { me, candidate, own, written: None, note: None, lock: Lock::None, start: Instant::now(), ms: 0 }
    }

    fn waiting_for(other: &Member, takeover: Takeover) -> Self {
        Self::new(named("new"), takeover, false, Some(Own::taken(None, other, None)))
    }

    fn step(&mut self) -> Step {
        let seen = Seen {
            now: self.start + Duration::from_millis(self.ms),
            own: self.own.as_ref(),
            written: self.written,
            note: self.note.as_ref(),
        };
        self.candidate.step(&seen, &self.lock)
    }

    /// A step `ms` later.
    fn later(&mut self, ms: u64) -> Step {
        self.ms += ms;
        self.step()
    }

    /// Writes what the step says.
    fn carry_out(&mut self, step: Step) {
        match step {
            Step::Claim(own) | Step::Take(own, _) => self.own = Some(own),
            Step::Note => self.candidate.noted(None),
            Step::Wait { .. } => {}
        }
    }
}

fn named(name: &str) -> Member {
    Member::named(name).unwrap()
}

fn waits_on(name: &str) -> Step {
    Step::Wait { on: name.into() }
}

fn is_take(step: &Step) -> bool {
    matches!(step, Step::Take(..))
}

#[test]
fn what_nobody_has_or_has_released_is_taken_at_once() {
    let mut scene = Scene::new(named("new"), Takeover::Never, false, None);
    let Step::Take(own, settle) = scene.step() else { panic!("nobody had it") };
    assert_eq!((own.epoch, settle), (1, Duration::ZERO));
    scene.own = Some(Own::taken(None, &named("old"), None).released());
    let Step::Take(own, settle) = scene.step() else { panic!("it was released") };
    assert_eq!((own.epoch, settle), (2, Duration::ZERO));
}

#[test]
fn what_was_released_for_another_one_is_left_to_it_for_a_while() {
    let (old, other) = (named("old"), named("other"));
    let mut scene = Scene::waiting_for(&old, Takeover::Never);
    scene.own = Some(Own::taken(None, &old, None).claimed(&other).answered().released());
    assert_eq!(scene.step(), waits_on("other"));
    assert_eq!(scene.later(9_999), waits_on("other"));
    assert!(is_take(&scene.later(1)));
}

#[test]
fn what_was_released_for_us_is_taken_at_once() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::New);
    scene.own = Some(Own::taken(None, &old, None).claimed(&scene.me).answered().released());
    assert!(is_take(&scene.step()));
}

#[test]
fn a_unique_name_takes_what_its_last_process_had_and_a_host_name_does_not() {
    let before = named("same");
    let mut unique = Scene::new(named("same"), Takeover::Never, false, Some(Own::taken(None, &before, None)));
    assert!(is_take(&unique.step()));
    let mut host = named("same");
    host.is_unique = false;
    let mut host = Scene::new(host, Takeover::Never, false, Some(Own::taken(None, &before, None)));
    assert_eq!(host.step(), waits_on("same"));
}

#[test]
fn a_lock_that_is_ours_now_proves_that_the_owner_is_gone() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::Never);
    scene.own = Some(Own::taken(None, &old, Some("boot/token".into())));
    scene.lock = Lock::Ours("boot/other".into());
    assert_eq!(scene.step(), waits_on("old"));
    scene.lock = Lock::Ours("boot/token".into());
    let Step::Take(own, _) = scene.step() else { panic!("the owner is gone") };
    assert_eq!(own.owner.unwrap().lock.as_deref(), Some("boot/token"));
}

#[test]
fn an_owner_that_gives_signs_of_life_is_waited_for() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::Never);
    for count in 0..20 {
        scene.note = Some(MemberNote::new(&old, count, false, 0));
        scene.candidate.refreshed(Duration::from_millis(50));
        assert_eq!(scene.later(5_000), waits_on("old"));
    }
}

#[test]
fn a_silent_owner_is_claimed_and_taken_three_seconds_later() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::Never);
    scene.note = Some(MemberNote::new(&old, 7, false, 0));
    assert_eq!(scene.step(), waits_on("old"));
    scene.candidate.refreshed(Duration::from_millis(50));
    assert_eq!(scene.later(5_000), waits_on("old"));
    scene.candidate.refreshed(Duration::from_millis(50));
    assert_eq!(scene.later(4_999), waits_on("old"));
    let claim = scene.later(1);
    assert!(matches!(claim, Step::Claim(_)), "{claim:?}");
    scene.carry_out(claim);
    assert_eq!(scene.later(100), waits_on("old"));
    assert_eq!(scene.later(2_999), waits_on("old"));
    let Step::Take(own, settle) = scene.later(1) else { panic!("no answer came") };
    assert_eq!((own.epoch, settle), (2, Duration::ZERO));
    assert!(own.is_owned_by(&scene.me));
}

#[test]
fn silence_does_not_count_while_the_bucket_is_slow_to_us() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::Never);
    scene.step();
    for _ in 0..10 {
        scene.candidate.refreshed(Duration::from_millis(2_500));
        assert_eq!(scene.later(5_000), waits_on("old"));
    }
    // Nor when none of ours was written at all.
    assert_eq!(scene.later(60_000), waits_on("old"));
    scene.candidate.refreshed(Duration::from_millis(50));
    assert_eq!(scene.later(5_000), waits_on("old"));
    scene.candidate.refreshed(Duration::from_millis(50));
    assert!(matches!(scene.later(5_000), Step::Claim(_)));
}

#[test]
fn signs_of_life_of_another_process_of_the_same_name_do_not_keep_an_owner_alive() {
    let old = named("same");
    let mut me = named("same");
    me.is_unique = false;
    let mut scene = Scene::new(me.clone(), Takeover::Never, false, Some(Own::taken(None, &old, None)));
    scene.step();
    for count in 0..2 {
        scene.note = Some(MemberNote::new(&me, count, false, 0));
        scene.candidate.refreshed(Duration::from_millis(50));
        assert_eq!(scene.later(4_999), waits_on("same"));
    }
    assert!(matches!(scene.later(2), Step::Claim(_)));
}

#[test]
fn an_owner_whose_lock_is_held_lives_however_silent_it_is() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::Never);
    scene.own = Some(Own::taken(None, &old, Some("directory".into())));
    scene.lock = Lock::Theirs("directory".into());
    scene.step();
    for _ in 0..10 {
        scene.candidate.refreshed(Duration::from_millis(50));
        assert_eq!(scene.later(5_000), waits_on("old"));
    }
}

#[test]
fn who_is_to_take_over_writes_that_down_and_asks_and_waits_for_the_release() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::New);
    assert_eq!(scene.step(), Step::Note);
    scene.candidate.noted(None);
    let claim = scene.step();
    assert!(matches!(claim, Step::Claim(_)), "{claim:?}");
    scene.carry_out(claim);
    assert_eq!(scene.later(100), waits_on("old"));
    scene.own = scene.own.map(|own| own.answered());
    assert_eq!(scene.later(1_000), waits_on("old"));
    assert_eq!(scene.later(19_000), waits_on("old"));
    scene.own = scene.own.map(|own| own.released());
    assert!(is_take(&scene.later(10)));
}

#[test]
fn who_was_kept_waiting_before_it_came_here_does_not_ask_one_that_came_later_unless_a_person_says_so() {
    let newer = named("newer");
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let after = |takeover, seconds| {
        let mut scene = Scene::waiting_for(&newer, takeover);
        scene.written = Some(started + Duration::from_secs(seconds));
        assert_eq!(scene.step(), Step::Note);
        scene.candidate.noted(Some(started));
        scene
    };
    let mut scene = after(Takeover::New, 3);
    assert_eq!(scene.step(), waits_on("newer"));
    assert_eq!(scene.later(1_000_000), waits_on("newer"));
    // As far as a clock that counts in seconds can tell, this owner may have been there before.
    assert!(matches!(after(Takeover::New, 2).step(), Step::Claim(_)));
    assert!(matches!(after(Takeover::Always, 3).step(), Step::Claim(_)));
}

#[test]
fn an_owner_that_died_when_it_was_asked_and_came_back_is_asked_again() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::New);
    for _ in 0..2 {
        let step = scene.step();
        scene.carry_out(step);
    }
    assert_eq!(scene.later(1_000), waits_on("old"));
    scene.own = Some(Own::taken(scene.own.as_ref(), &named("old"), None));
    let claim = scene.later(1_000);
    assert!(matches!(claim, Step::Claim(_)), "{claim:?}");
    scene.carry_out(claim);
    assert_eq!(scene.later(1_000), waits_on("old"));
    assert!(is_take(&scene.later(3_000)));
}

#[test]
fn who_asks_nobody_and_claimed_from_the_silent_waits_when_the_owner_is_back() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::Never);
    assert_eq!(scene.step(), waits_on("old"));
    for _ in 0..2 {
        scene.later(5_000);
        scene.candidate.refreshed(Duration::from_millis(50));
    }
    let claim = scene.later(1_000);
    assert!(matches!(claim, Step::Claim(_)), "{claim:?}");
    scene.carry_out(claim);
    assert_eq!(scene.later(1_000), waits_on("old"));
    // It was started again, and took back what was its own.
    scene.own = Some(Own::taken(scene.own.as_ref(), &named("old"), None));
    assert_eq!(scene.later(1_000), waits_on("old"));
    assert_eq!(scene.later(1_000), waits_on("old"));
}

#[test]
fn an_owner_that_answered_and_does_not_release_is_taken_from_and_what_it_may_still_acknowledge_is_waited_for() {
    let old = named("old");
    let mut scene = Scene::waiting_for(&old, Takeover::Always);
    scene.own = Some(Own::taken(None, &old, None).claimed(&scene.me).answered());
    assert_eq!(scene.step(), waits_on("old"));
    assert_eq!(scene.later(19_999), waits_on("old"));
    let Step::Take(_, settle) = scene.later(1) else { panic!("it was not released") };
    assert_eq!(settle, SETTLE);
}

#[test]
fn who_has_asked_once_never_asks_again_unless_a_person_says_so() {
    let old = named("old");
    let mut asked = Scene::new(named("new"), Takeover::New, true, Some(Own::taken(None, &old, None)));
    assert_eq!(asked.step(), waits_on("old"));
    assert_eq!(asked.later(1_000_000), waits_on("old"));
    let mut always = Scene::new(named("new"), Takeover::Always, true, Some(Own::taken(None, &old, None)));
    assert_eq!(always.step(), Step::Note);
    // It asked, got the shards, lost them to somebody else: within one life it does not ask twice.
    let mut scene = Scene::waiting_for(&old, Takeover::New);
    for _ in 0..2 {
        let step = scene.step();
        scene.carry_out(step);
    }
    scene.step();
    scene.own = Some(Own::taken(scene.own.as_ref(), &named("third"), None));
    assert_eq!(scene.later(1_000), waits_on("third"));
}

#[test]
fn who_asked_first_is_let_go_first() {
    let (old, other) = (named("old"), named("other"));
    let mut scene = Scene::waiting_for(&old, Takeover::New);
    scene.own = Some(Own::taken(None, &old, None).claimed(&other));
    assert_eq!(scene.step(), waits_on("old"));
    assert_eq!(scene.later(1_000), waits_on("old"));
    scene.own = Some(Own::taken(scene.own.as_ref(), &other, None));
    assert_eq!(scene.later(1_000), Step::Note);
}
