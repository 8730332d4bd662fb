//! Which Subscriptions match a Topic Name.
