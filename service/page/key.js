// The key that a server asks for. It stays in this tab, and goes with every request; never in an address.

const NAME = "hetsyn.key";
const FORM = /^hsk_[0-9a-f]{16}_[\w-]{43}$/;
const PREFIX = "hetsyn.key."; // of the subprotocol: a page can give a WebSocket no header

let key = sessionStorage.getItem(NAME) ?? "";

/** Keep a key for this tab; false: it is none. */
export function keep(text) {
  const isKey = FORM.test(text.trim());
  if (isKey) sessionStorage.setItem(NAME, (key = text.trim()));
  return isKey;
}

/** Whether there is one. */
export function hasKey() {
  return key !== "";
}

/** The options of fetch, with the key. */
export function withKey(options = {}) {
  return key ? { ...options, headers: { ...options.headers, Authorization: `Bearer ${key}` } } : options;
}

/** The subprotocols of a WebSocket, with the key. */
export function protocols(name) {
  return key ? [name, PREFIX + key] : [name];
}
