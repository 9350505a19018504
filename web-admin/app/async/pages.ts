/** A list that comes page by page and stays whole while it is refreshed. */

import { ref } from 'vue'
import type { Ref } from 'vue'
import { ApiError } from '../api/problem'
import type { Page } from '../api/types'
import { useResource } from './resource'
import type { Resource } from './resource'

/** A refresh that missed more pages than this starts the list anew. */
const MAX_CATCH_UP_PAGES = 5
/** Pages without an item that are passed by themselves; behind them somebody asks for more. */
const MAX_EMPTY_PAGES = 5

export interface Pages<T> extends Resource<Page<T>> {
  loadMore: () => Promise<void>
  isLoadingMore: Ref<boolean>
}

type FetchPage<T> = (cursor: string | null, signal: AbortSignal) => Promise<Page<T>>

export function usePages<T extends { id: string }>(fetchPage: FetchPage<T>): Pages<T> {
  const filled = (cursor: string | null, signal: AbortSignal) => pastEmpty((at) => fetchPage(at, signal), cursor)
  const resource: Resource<Page<T>> = useResource(
    (signal) => catchUp((cursor) => filled(cursor, signal), () => resource.data.value),
    // A server that looked through a part only has not said that there is nothing.
    ({ items, next }) => items.length === 0 && !next,
  )
  const isLoadingMore = ref(false)

  async function loadMore(): Promise<void> {
    const next = resource.data.value?.next
    if (!next || isLoadingMore.value) return
    isLoadingMore.value = true
    try {
      const older = await filled(next, new AbortController().signal)
      resource.patch((now) => ({ items: merge(now.items, older.items), next: older.next ?? null }))
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure
      resource.error.value = failure
    } finally {
      isLoadingMore.value = false
    }
  }

  return { ...resource, loadMore, isLoadingMore }
}

/** The first page with an item from there on, or the last one; a bounded number of them. */
async function pastEmpty<T>(
  fetchPage: (cursor: string | null) => Promise<Page<T>>,
  cursor: string | null,
): Promise<Page<T>> {
  let page = await fetchPage(cursor)
  for (let passed = 1; passed < MAX_EMPTY_PAGES && page.items.length === 0 && page.next; passed += 1) {
    page = await fetchPage(page.next)
  }
  return page
}

/** Reads from the top until the list joins what is already shown, so that nothing in between lacks. */
export async function catchUp<T extends { id: string }>(
  fetchPage: (cursor: string | null) => Promise<Page<T>>,
  shown: () => Page<T> | null,
): Promise<Page<T>> {
  const known = new Set(shown()?.items.map(({ id }) => id))
  let { items, next = null } = await fetchPage(null)
  if (known.size === 0) return { items, next }
  for (let page = 1; page < MAX_CATCH_UP_PAGES && next !== null; page += 1) {
    if (items.some(({ id }) => known.has(id))) break
    const older = await fetchPage(next)
    items = merge(items, older.items)
    next = older.next ?? null
  }
  // Read again: the older pages may have been asked for meanwhile.
  const latest = shown()
  const joins = next !== null && items.some(({ id }) => known.has(id))
  return latest && joins
    ? { items: merge(items, latest.items), next: latest.next ?? null }
    : { items, next }
}

/** `fresh` first, then what only `older` has. */
export function merge<T extends { id: string }>(fresh: T[], older: T[]): T[] {
  const known = new Set(fresh.map(({ id }) => id))
  return [...fresh, ...older.filter(({ id }) => !known.has(id))]
}
