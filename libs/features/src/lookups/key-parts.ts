/** Between the parts of a key of several fields, as `keysOf` joins an event's: the unit separator of ASCII. */
export const keySeparator = '\u001f'
