import { kind, type Kind, text, withMembers, withValue } from './malformed-kinds.ts'

const missing = /is missing$/
const noTime = /must be an RFC 3339 time/
const noNumber = /must be a number, got /

/** Objects with something wrong in the fields that both topics' events have. */
export const malformedFields: readonly Kind[] = [
  kind('no fields', missing, () => '{}', 'transaction_id'),
  kind('an id that is a text', /must be an integer, got "one"/, (good) => text(good, { transaction_id: 'one' }), 'transaction_id'),
  kind(
    'an id of 400 digits',
    /is out of range: 9+ is no 64-bit/,
    (good) => withValue(good, 'transaction_id', '9'.repeat(400)),
    'transaction_id',
  ),
  kind('an id beyond 64 bits', /is out of range/, (good) => withValue(good, 'transaction_id', String(2n ** 63n)), 'transaction_id'),
  kind('an id given twice', /is given twice/, (good) => withMembers(good, '"transaction_id":1'), 'transaction_id'),
  kind('an id given twice, once in escapes', /is given twice/, (good) => withMembers(good, '"\\u0074ransaction_id":1'), 'transaction_id'),
  kind('a terminal that is a fraction', /must be an integer, got 7\.5/, (good) => text(good, { terminal_id: 7.5 }), 'terminal_id'),
  kind('a terminal below 0', /must be at least 0, got -1/, (good) => text(good, { terminal_id: -1 }), 'terminal_id'),
  kind('no terminal', missing, (good) => text(good, { terminal_id: undefined }), 'terminal_id'),
  kind('no time', missing, (good) => text(good, { tx_datetime: undefined }), 'tx_datetime'),
  kind('a time that is null', noTime, (good) => text(good, { tx_datetime: null }), 'tx_datetime'),
  kind('30 February', /got "2018-02-30T00:00:00Z"/, (good) => text(good, { tx_datetime: '2018-02-30T00:00:00Z' }), 'tx_datetime'),
  kind('a time without an offset', noTime, (good) => text(good, { tx_datetime: '2018-04-01T00:00:00' }), 'tx_datetime'),
  kind('a date alone', noTime, (good) => text(good, { tx_datetime: '2018-04-01' }), 'tx_datetime'),
  kind('a day of 25 hours', noTime, (good) => text(good, { tx_datetime: '2018-04-01T25:00:00Z' }), 'tx_datetime'),
  kind('a time beyond all calendars', /is no time/, (good) => text(good, { tx_datetime: 1e300 }), 'tx_datetime'),
  kind(
    'a time in the far future',
    /more than a day in the future/,
    (good) => text(good, { tx_datetime: '2199-01-01T00:00:00Z' }),
    'tx_datetime',
  ),
  kind(
    'a time long before the newest of its key',
    /before the newest event of/,
    (good) => text(good, { tx_datetime: '1970-01-01T00:00:00Z' }),
    'tx_datetime',
    'OUT_OF_RANGE',
  ),
]

export const malformedTransactions: readonly Kind[] = [
  kind('no customer', missing, (good) => text(good, { customer_id: undefined }), 'customer_id'),
  kind('a customer that is an object', /must be an integer/, (good) => text(good, { customer_id: {} }), 'customer_id'),
  kind('no amount', missing, (good) => text(good, { amount: undefined }), 'amount'),
  kind('an amount that is null', noNumber, (good) => text(good, { amount: null }), 'amount'),
  kind('an amount that is true', noNumber, (good) => text(good, { amount: true }), 'amount'),
  kind('an amount that is a text', /must be a number, got "10"/, (good) => text(good, { amount: '10' }), 'amount'),
  kind('an amount in an array', noNumber, (good) => text(good, { amount: [10] }), 'amount'),
  kind('an amount below 0', /must be at least 0, got -0\.01/, (good) => text(good, { amount: -0.01 }), 'amount'),
  kind('an amount above the most', /must be at most 1000000/, (good) => text(good, { amount: 1e7 }), 'amount'),
  kind('an amount of 1e400', /no 64-bit float holds 1e400/, (good) => withValue(good, 'amount', '1e400'), 'amount'),
  kind('an amount of -1e400', /no 64-bit float holds -1e400/, (good) => withValue(good, 'amount', '-1e400'), 'amount'),
  kind('an amount of 400 digits', /no 64-bit float holds 9+/, (good) => withValue(good, 'amount', '9'.repeat(400)), 'amount'),
  kind('NaN', /NaN is no JSON value/, (good) => withValue(good, 'amount', 'NaN'), 'amount'),
  kind('-Infinity', /-Infinity is no JSON value/, (good) => withValue(good, 'amount', '-Infinity'), 'amount'),
  kind('an amount in hexadecimal', /expected ',' or '}'/, (good) => withValue(good, 'amount', '0x10')),
  kind('an amount that begins with 0', /does not begin with 0/, (good) => withValue(good, 'amount', '010'), 'amount'),
  kind('an amount with a plus', /expected a value/, (good) => withValue(good, 'amount', '+5'), 'amount'),
  kind('an amount that ends with its point', /a digit must follow/, (good) => withValue(good, 'amount', '5.'), 'amount'),
  kind('an amount without its exponent', /a digit must follow/, (good) => withValue(good, 'amount', '1e'), 'amount'),
  kind('an amount given twice', /is given twice/, (good) => withMembers(good, '"amount":1'), 'amount'),
]

export const malformedLabels: readonly Kind[] = [
  kind('no fraud', missing, (good) => text(good, { fraud: undefined }), 'fraud'),
  kind('fraud as a text', /must be true or false, got "no"/, (good) => text(good, { fraud: 'no' }), 'fraud'),
  kind('fraud as a number', /must be true or false, got 0/, (good) => text(good, { fraud: 0 }), 'fraud'),
  kind('fraud cut off', /no JSON value/, (good) => withValue(good, 'fraud', 'tru'), 'fraud'),
]
