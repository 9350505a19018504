/** Texts that a person has not sent yet, kept in their browser until they sign out. */

const PREFIX = 'botyard.draft.'
/** Replies that were sent and that the server has not confirmed (`features/inbox/unsent.ts`). */
export const UNSENT_PREFIX = 'botyard.unsent.'
/** The least recently written give way, so that drafts never fill the browser's store. */
const MAX_DRAFTS = 100

export interface Drafts {
  read: (of: string) => string
  write: (of: string, text: string) => void
}

export function draftsIn(store: Storage, member: string, now: () => number): Drafts {
  const keyOf = (of: string) => `${PREFIX}${member}.${of}`

  function write(of: string, text: string): void {
    if (text === '') {
      store.removeItem(keyOf(of))
      return
    }
    try {
      store.setItem(keyOf(of), `${now()} ${text}`)
      for (const key of draftKeys(store).slice(MAX_DRAFTS)) store.removeItem(key)
    } catch {
      // The store is full or forbidden: the draft lives as long as the page.
    }
  }

  return { read: (of) => (store.getItem(keyOf(of)) ?? '').replace(/^\d+(?:\.\d+)? /, ''), write }
}

/** Also of replies that are not confirmed. */
export function forgetDrafts(store: Storage): void {
  for (const prefix of [PREFIX, UNSENT_PREFIX]) for (const key of keysOf(store, prefix)) store.removeItem(key)
}

/** Newest first. */
function draftKeys(store: Storage): string[] {
  const age = (key: string) => Number.parseFloat(store.getItem(key) ?? '')
  return keysOf(store, PREFIX).toSorted((one, other) => age(other) - age(one))
}

/** What a store holds under names that begin so. */
export function keysOf(store: Storage, prefix: string): string[] {
  return Array.from({ length: store.length }, (_, index) => store.key(index) ?? '').filter((key) => key.startsWith(prefix))
}
