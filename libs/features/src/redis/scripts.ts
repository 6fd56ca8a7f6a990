import { createHash } from 'node:crypto'
import { lost } from './errors.ts'

/** Lua that the server runs as one step. */
export interface Script {
  readonly source: string
  readonly sha: string
}

function script(source: string): Script {
  return { source, sha: createHash('sha1').update(source).digest('hex') }
}

const checkIdentity = `if redis.call('GET', KEYS[1]) ~= ARGV[1] then return redis.error_reply('${lost} identity') end`

/** A value starts with a nonce that is made anew with every writing of the whole value, and the length of its first block as UINT32, least byte first. */
export const headerBytes = 12
export const nonceBytes = 8

/**
 * Numbers a name, from 1, the same for ever.
 * KEYS: identity, hash. ARGV: identity, name, suffix of what is stored for it where it is new. Returns what is stored: the number and its suffix.
 */
export const numberScript: Script = script(`
${checkIdentity}
local known = redis.call('HGET', KEYS[2], ARGV[2])
if known then return known end
local made = tostring(redis.call('HLEN', KEYS[2]) + 1) .. ARGV[3]
redis.call('HSET', KEYS[2], ARGV[2], made)
return made`)

/**
 * Writes a slice: to each key its block, or, where the key is still as the writer last saw it, a new value in the place of the old.
 * KEYS: identity, count of writes, then the keys. ARGV: identity, header of a value that starts with a block, then for each key: block; time to live in ms, or empty to leave
 * it; new value, or empty; and where there is one the length and the header that the writer last saw. Returns the new count of writes, then the
 * keys' lengths, in order.
 *
 * Appending loses nothing whoever else appends, and the new value takes the place only of what it was made from: a nonce is never used twice, and between two
 * nonces a value only grows.
 */
export const appendScript: Script = script(`
${checkIdentity}
local answer, at = { redis.call('INCR', KEYS[2]) }, 3
for k = 3, #KEYS do
  local key, block, ttl, value, length = KEYS[k], ARGV[at], ARGV[at + 1], ARGV[at + 2], nil
  at = at + 3
  if value ~= '' then
    if redis.call('STRLEN', key) == tonumber(ARGV[at]) and redis.call('GETRANGE', key, 0, ${headerBytes - 1}) == ARGV[at + 1] then
      if ttl == '' then redis.call('SET', key, value) else redis.call('SET', key, value, 'PX', ttl) end
      length = #value
    end
    at = at + 2
  end
  if not length then
    length = redis.call('APPEND', key, block)
    if length == #block then
      length = length + ${headerBytes}
      redis.call('SET', key, ARGV[2] .. block)
    end
    if ttl ~= '' then redis.call('PEXPIRE', key, ttl) end
  end
  answer[k - 1] = length
end
return answer`)
