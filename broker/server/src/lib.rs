//! The BucketMQ broker: wires the rooms into the binary bucketmq.
