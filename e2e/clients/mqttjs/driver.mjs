// MQTT.js on one job: see src/job.rs for what the job says and what is answered.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { setTimeout as sleep } from 'node:timers/promises';

const mqtt = createRequire(`${process.env.MQTTJS_MODULES}/`)('mqtt');
const job = JSON.parse(process.argv[2]);
const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);
const fail = (error) => {
  process.stderr.write(`${error}\n`);
  process.exit(1);
};

/** Messages on their way at a time; MQTT.js itself sets no limit. */
const WINDOW = 20;

const schemes = { tcp: 'mqtt', tls: 'mqtts', ws: 'ws' };
const path = job.transport === 'ws' ? '/mqtt' : '';
const read = (file) => (file ? readFileSync(file) : undefined);
const client = mqtt.connect(`${schemes[job.transport]}://${job.host}:${job.port}${path}`, {
  protocolVersion: job.version,
  protocolId: job.version === 3 ? 'MQIsdp' : 'MQTT',
  clientId: job.client_id,
  clean: job.clean,
  reconnectPeriod: 0,
  resubscribe: false,
  properties: job.version === 5 ? { sessionExpiryInterval: job.clean ? 0 : 3600 } : undefined,
  will: job.will ?? undefined,
  ca: read(job.ca),
  cert: read(job.cert),
  key: read(job.key),
});

let received = 0;
let enough;
const messages = new Promise((resolve) => {
  enough = resolve;
});
client.on('error', fail);
client.on('close', () => {
  if (!client.disconnecting) fail('the connection was closed');
});
client.on('message', (topic, payload, packet) => {
  say({ event: 'message', payload: payload.toString(), qos: packet.qos, retain: packet.retain });
  received += 1;
  if (received >= job.count) enough();
});
client.on('connect', async (connack) => {
  try {
    say({ event: 'connected', session_present: connack.sessionPresent });
    await (job.role === 'publish' ? publish() : subscribe());
    await client.endAsync();
  } catch (error) {
    fail(error);
  }
});

async function publish() {
  const options = { qos: job.qos, retain: job.retain };
  const payloads = job.payload === null ? Array.from({ length: job.count }, (_, number) => String(number)) : [job.payload];
  const onTheirWay = new Set();
  for (const payload of payloads) {
    const acknowledged = client.publishAsync(job.topic, payload, options).finally(() => onTheirWay.delete(acknowledged));
    onTheirWay.add(acknowledged);
    if (onTheirWay.size >= WINDOW) await Promise.race(onTheirWay);
  }
  await Promise.all(onTheirWay);
}

async function subscribe() {
  const [granted] = await client.subscribeAsync(job.topic, { qos: job.qos });
  if (granted.qos >= 128) throw new Error(`subscription refused: ${granted.qos}`);
  say({ event: 'subscribed' });
  if (job.count > 0) await messages;
  await sleep(job.linger_ms);
}
