/** Pages that are read anew as a whole: what no longer fits a filter leaves the list. */

import { ref } from 'vue'
import type { Page } from '../../api/types'
import type { Pages } from '../../async/pages'
import { useResource } from '../../async/resource'

/** More are found by a filter, not by reading on. */
export const MAX_PAGES = 10

type FetchPage<T> = (cursor: string | null, signal: AbortSignal) => Promise<Page<T>>

export async function readPages<T>(fetchPage: FetchPage<T>, count: number, signal: AbortSignal): Promise<Page<T>> {
  let { items, next = null } = await fetchPage(null, signal)
  for (let page = 1; page < count && next !== null; page += 1) {
    const more = await fetchPage(next, signal)
    items = [...items, ...more.items]
    next = more.next ?? null
  }
  return { items, next: count < MAX_PAGES ? next : null }
}

export function useWholePages<T extends { id: string }>(fetchPage: FetchPage<T>): Pages<T> {
  const count = ref(1)
  const isLoadingMore = ref(false)
  const resource = useResource(
    (signal) => readPages(fetchPage, count.value, signal),
    ({ items }) => items.length === 0,
  )

  async function reload(): Promise<void> {
    count.value = 1
    await resource.reload()
  }

  async function loadMore(): Promise<void> {
    count.value += 1
    isLoadingMore.value = true
    await resource.refresh()
    isLoadingMore.value = false
  }

  return { ...resource, reload, loadMore, isLoadingMore }
}
