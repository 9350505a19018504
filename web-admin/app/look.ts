/** An operator's look into a tenant: kept by the tab, and ended by its grant at the latest. */

export interface Look {
  tenantId: string
  tenantName: string
  until: string
}

const KEY = 'botyard.look'

export function lookOf(store: Storage): Look | null {
  const kept = store.getItem(KEY)
  return kept === null ? null : (JSON.parse(kept) as Look)
}

export function beginLook(store: Storage, look: Look): void {
  store.setItem(KEY, JSON.stringify(look))
}

export function endLook(store: Storage): void {
  store.removeItem(KEY)
}
