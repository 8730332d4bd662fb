"""paho-mqtt on one job: see src/job.rs for what the job says and what is answered."""

import json
import ssl
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def say(**event):
    print(json.dumps(event), flush=True)


def main():
    job = json.loads(sys.argv[1])
    is_v5 = job["version"] == 5
    kept = 0 if job["clean"] else 3600
    client = mqtt.Client(
        mqtt.CallbackAPIVersion.VERSION2,
        client_id=job["client_id"],
        clean_session=None if is_v5 else job["clean"],
        protocol={3: mqtt.MQTTv31, 4: mqtt.MQTTv311, 5: mqtt.MQTTv5}[job["version"]],
        transport="websockets" if job["transport"] == "ws" else "tcp",
        reconnect_on_failure=False,
    )
    client.max_queued_messages_set(0)
    if job["transport"] == "ws":
        client.ws_set_options(path="/mqtt")
    if job["transport"] == "tls":
        client.tls_set(ca_certs=job["ca"], certfile=job["cert"], keyfile=job["key"], cert_reqs=ssl.CERT_REQUIRED)
    if job["will"]:
        will = job["will"]
        client.will_set(will["topic"], will["payload"], will["qos"], will["retain"])

    connected = threading.Event()
    done = threading.Event()
    problems = []
    received = 0

    def on_connect(client, userdata, flags, reason_code, properties):
        if reason_code.is_failure:
            problems.append(f"refused: {reason_code}")
            done.set()
        else:
            say(event="connected", session_present=flags.session_present)
        connected.set()

    def on_disconnect(client, userdata, flags, reason_code, properties):
        if reason_code.is_failure and not done.is_set():
            problems.append(f"disconnected: {reason_code}")
        connected.set()
        done.set()

    def on_subscribe(client, userdata, mid, reason_codes, properties):
        if reason_codes[0].is_failure:
            problems.append(f"subscription refused: {reason_codes[0]}")
            done.set()
        say(event="subscribed")
        if job["count"] == 0:
            done.set()

    def on_message(client, userdata, message):
        nonlocal received
        received += 1
        say(event="message", payload=message.payload.decode(), qos=message.qos, retain=bool(message.retain))
        if received >= job["count"]:
            done.set()

    client.on_connect = on_connect
    client.on_disconnect = on_disconnect
    client.on_subscribe = on_subscribe
    client.on_message = on_message

    options = {}
    if is_v5:
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = kept
        options = {"clean_start": job["clean"], "properties": properties}
    client.connect(job["host"], job["port"], keepalive=60, **options)
    client.loop_start()
    connected.wait(30)
    if not problems and job["role"] == "publish":
        payloads = [job["payload"]] if job["payload"] is not None else [str(number) for number in range(job["count"])]
        sent = [client.publish(job["topic"], payload, job["qos"], job["retain"]) for payload in payloads]
        for message in sent:
            message.wait_for_publish(100)
            if not message.is_published():
                problems.append(f"message {message.mid} was not acknowledged")
                break
    elif not problems:
        client.subscribe(job["topic"], job["qos"])
        done.wait()
        time.sleep(job["linger_ms"] / 1000)
    done.set()
    client.disconnect()
    client.loop_stop()
    if problems:
        sys.exit("; ".join(problems))


main()
