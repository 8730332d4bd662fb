//! Who gets the next message of a Shared Subscription.

use bucketmq_packet::QoS;

use super::*;

fn group(members: u32) -> Group<u32> {
    let mut group = Group::new("share", "a/+");
    for member in 0..members {
        group.join(member, Options::new(QoS::AtLeastOnce));
    }
    group
}

fn picks(group: &Group<u32>, strategy: Strategy, count: usize, load: impl Fn(&u32) -> Option<u32>) -> Vec<Option<u32>> {
    (0..count).map(|_| group.pick(strategy, 7, &load).map(|member| member.subscriber)).collect()
}

const ALL: [Strategy; 4] = [Strategy::RoundRobin, Strategy::Random, Strategy::Sticky, Strategy::LeastInflight];

#[test]
fn round_robin_takes_one_after_the_other() {
    assert_eq!(picks(&group(3), Strategy::RoundRobin, 5, |_| Some(0)), [0, 1, 2, 0, 1].map(Some));
}

#[test]
fn the_turns_of_a_member_that_is_away_are_shared_by_the_others() {
    let group = group(4);
    let picked = picks(&group, Strategy::RoundRobin, 300, |member| (*member != 1).then_some(0));
    for member in [0, 2, 3] {
        assert_eq!(picked.iter().filter(|picked| **picked == Some(member)).count(), 100);
    }
}

#[test]
fn nobody_is_picked_when_nobody_can_take_a_message() {
    for strategy in ALL {
        for members in [1, 3] {
            assert_eq!(picks(&group(members), strategy, 3, |_| None), [None; 3], "{strategy:?}");
        }
    }
}

#[test]
fn every_strategy_finds_the_only_member_that_can_take_a_message() {
    for strategy in ALL {
        assert_eq!(picks(&group(9), strategy, 20, |member| (*member == 5).then_some(3)), [Some(5); 20], "{strategy:?}");
    }
}

#[test]
fn a_loaded_member_is_passed_over_while_another_is_idle() {
    for strategy in ALL {
        let picked = picks(&group(3), strategy, 20, |member| Some(u32::from(*member != 2)));
        assert_eq!(picked, [Some(2); 20], "{strategy:?}");
    }
}

#[test]
fn least_inflight_takes_the_smallest_number_and_turns_among_equals() {
    let group = group(3);
    assert_eq!(picks(&group, Strategy::LeastInflight, 3, |member| Some([5, 2, 9][*member as usize])), [Some(1); 3]);
    let mut picked = picks(&group, Strategy::LeastInflight, 3, |_| Some(4));
    picked.sort();
    assert_eq!(picked, [0, 1, 2].map(Some));
}

#[test]
fn random_reaches_everybody_about_equally_often() {
    let group = group(5);
    let picked = picks(&group, Strategy::Random, 10_000, |_| Some(0));
    for member in 0..5 {
        let count = picked.iter().filter(|picked| **picked == Some(member)).count();
        assert!((1_800..2_200).contains(&count), "member {member}: {count} of 10,000");
    }
}

#[test]
fn sticky_keeps_a_publisher_at_its_member_and_moves_only_those_of_who_leaves() {
    let mut group = group(5);
    let before: Vec<u32> = (0..1_000).map(|key| group.pick(Strategy::Sticky, key, |_| Some(0)).unwrap().subscriber).collect();
    for member in 0..5 {
        let count = before.iter().filter(|picked| **picked == member).count();
        assert!((150..250).contains(&count), "member {member}: {count} of 1,000");
    }
    group.leave(group.place(&3).unwrap());
    for (key, before) in before.into_iter().enumerate() {
        let after = group.pick(Strategy::Sticky, key as u64, |_| Some(0)).unwrap().subscriber;
        assert!(after == before || before == 3, "publisher {key} moved from {before} to {after}");
    }
}
