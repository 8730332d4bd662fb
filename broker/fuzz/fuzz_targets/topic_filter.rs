//! Two lines are filters and a third is a topic: what matching, covering and intersecting say has to fit together.
#![no_main]

use bucketmq_packet::topic::{Filter, check_filter, check_name, covers, has_wildcard, intersects, levels, matches};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &str| {
    let mut lines = data.splitn(3, '\n');
    let a = lines.next().unwrap_or("");
    let b = lines.next().unwrap_or("");
    let topic = lines.next().unwrap_or("");
    let topic = check_name(topic).is_ok().then_some(topic);
    let (Ok(Filter { filter: a, .. }), Ok(Filter { filter: b, .. })) = (check_filter(a), check_filter(b)) else { return };
    for filter in [a, b] {
        assert_eq!(check_filter(filter).is_ok_and(|checked| checked.share_name.is_none()), !filter.starts_with("$share/"));
        assert!(covers(filter, filter) && intersects(filter, filter));
        assert_eq!(levels(filter), filter.split('/').count());
        assert_eq!(has_wildcard(filter), check_name(filter).is_err());
        if !has_wildcard(filter) {
            assert!(matches(filter, filter), "a topic matches itself");
            // A filter without wildcards is one topic.
            let other = if std::ptr::eq(filter, a) { b } else { a };
            assert_eq!(covers(other, filter), matches(other, filter));
            assert_eq!(intersects(other, filter), matches(other, filter));
        }
    }
    assert_eq!(intersects(a, b), intersects(b, a));
    if covers(a, b) {
        assert!(intersects(a, b), "what is covered is common");
    }
    let Some(topic) = topic else { return };
    if matches(a, topic) && matches(b, topic) {
        assert!(intersects(a, b), "{topic} is common");
    }
    if matches(b, topic) && covers(a, b) {
        assert!(matches(a, topic), "{topic} is covered");
    }
});
