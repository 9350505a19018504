/** The emoji that somebody used last in this browser. */

const KEY = 'botyard.emoji'
const MAX_RECENT = 16

export function recent(store: Storage): string[] {
  return (store.getItem(KEY) ?? '').split(' ').filter(Boolean)
}

export function used(store: Storage, sign: string): void {
  try {
    store.setItem(KEY, [sign, ...recent(store).filter((one) => one !== sign)].slice(0, MAX_RECENT).join(' '))
  } catch {
    // Nobody misses it.
  }
}
