import type { IHeaders } from 'kafkajs'
import { bytes, type Fields, kind, type Kind, maxEventBytes, nested, padded, type Sent, text, withMembers } from './malformed-kinds.ts'

const structured: IHeaders = { 'content-type': 'application/cloudevents+json; charset=UTF-8' }
const binary: IHeaders = { ce_specversion: '1.0', ce_id: 'a', ce_source: '/shop', ce_type: 'paid', 'content-type': 'application/json' }

const required = '"specversion":"1.0","type":"paid","source":"/shop","id":"a"'
const envelope = (members: string): Sent => ({ headers: structured, value: `{${required},${members}}` })
const base64 = (good: Fields): string => Buffer.from(text(good)).toString('base64')
const manyHeaders: IHeaders = Object.fromEntries(Array.from({ length: 3000 }, (_, i) => [`h${i}`, 'v']))
const noTime = /must be an RFC 3339 time/

/** CloudEvents in either mode that are broken, and headers that are. */
export const malformedCloudEvents: readonly Kind[] = [
  kind(
    'version 0.3',
    /must be 1\.0/,
    (good) => ({ headers: structured, value: `{"specversion":"0.3","data":${text(good)}}` }),
    'specversion',
  ),
  kind('no data', /neither data nor data_base64/, () => envelope('"subject":"s"'), 'data'),
  kind('data that are a text', /must be a JSON object/, (good) => envelope(`"data":${JSON.stringify(text(good))}`)),
  kind('data that are null', /must be a JSON object/, () => envelope('"data":null')),
  kind('data twice', /is given twice/, (good) => envelope(`"data":${text(good)},"data":${text(good)}`), 'data'),
  kind('data in both forms', /as data and as data_base64/, (good) => envelope(`"data":${text(good)},"data_base64":"e30="`), 'data'),
  kind('base64 that is none', /must be base64/, (good) => envelope(`"data_base64":"*${base64(good)}"`), 'data_base64'),
  kind('base64 of bytes that are no text', /no valid UTF-8/, () => envelope('"data_base64":"//79"'), 'data_base64'),
  kind('an impossible time', noTime, (good) => envelope(`"time":"now","data":${text(good)}`), 'time'),
  kind('an id that is an object', /must be a text/, (good) => ({ headers: structured, value: `{"id":{},"data":${text(good)}}` }), 'id'),
  kind(
    'a bad field in data',
    /must be an integer, got true/,
    (good) => envelope(`"data":${text(good, { terminal_id: true })}`),
    'terminal_id',
  ),
  kind('an envelope cut off', /at its end/, (good) => ({ headers: structured, value: `{${required},"data":${text(good)}` })),
  kind('a bare event said to be an envelope', /neither data nor/, (good) => ({ headers: structured, value: text(good) }), 'data'),
  kind('an impossible ce_time', /got "soon"/, (good) => ({ headers: { ...binary, ce_time: 'soon' }, value: text(good) }), 'ce_time'),
  kind('a ce_time of bytes', noTime, (good) => ({ headers: { ...binary, ce_time: bytes([0xff, 0xfe]) }, value: text(good) }), 'ce_time'),
  kind('an empty ce_time', /got ""/, (good) => ({ headers: { ...binary, ce_time: '' }, value: text(good) }), 'ce_time'),
  kind(
    'headers of version 0.3',
    /got "0\.3"/,
    (good) => ({ headers: { ...binary, ce_specversion: '0.3' }, value: text(good) }),
    'ce_specversion',
  ),
  kind(
    'a deadline that is none',
    /must be ms since the epoch, got "soon"/,
    (good) => ({ headers: { 'spillway-deadline-ms': 'soon' }, value: text(good) }),
    'spillway-deadline-ms',
  ),
  kind('good headers, a bad field', /got "7"/, (good) => ({ headers: binary, value: text(good, { terminal_id: '7' }) }), 'terminal_id'),
  kind(
    'a bad field, headers of 900 KB',
    noTime,
    (good) => ({ headers: { note: 'n'.repeat(900_000) }, value: text(good, { tx_datetime: 'soon' }) }),
    'tx_datetime',
  ),
  kind(
    'a bad field, 3,000 headers',
    noTime,
    (good) => ({ headers: manyHeaders, value: text(good, { tx_datetime: 'soon' }) }),
    'tx_datetime',
  ),
]

/** Good events in strange clothes: each must be answered as if it came plainly. */
export const strangeButGood: readonly ((good: Fields) => Sent)[] = [
  (good) => ({ value: padded(good, maxEventBytes) }),
  (good) => envelope(`"data":${text(good)}`),
  (good) => envelope(`"data_base64":"${base64(good)}","time":"2018-04-01T00:00:00Z"`),
  (good) => ({ value: text(good), headers: { ...binary, ce_time: '2018-04-01T00:00:00+02:00', traceparent: 'none' } }),
  (good) => ({ value: text(good), headers: { ['__proto__']: 'a', constructor: 'b', '': 'c', bytes: bytes([0xff]), twice: ['d', 'e'] } }),
  (good) => ({ value: JSON.stringify(good, undefined, '\t\r\n  ') }),
  (good) => ({ value: JSON.stringify(Object.fromEntries(Object.entries(good).toReversed())) }),
  (good) => ({ value: text(good).replace('transaction_id', '\\u0074ransaction_id') }),
  (good) => ({ value: withMembers(good, `"a":${nested('[', ']', 60)},"a":null,"shop":"\\ud800 Café 💳","":{}`) }),
  (good) => ({ value: text(Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`field${i}`, i])), good) }),
]
