//! The checker against histories made by hand.

use super::*;

#[test]
fn topic_filters_match_as_the_specification_says() {
    for (filter, topic, expected) in [("t/#", "t/1/2", true), ("t/#", "t", true), ("t/1/+", "t/1/2", true), ("t/+", "t/1/2", false), ("t/1", "t/2", false)] {
        assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
    }
}
