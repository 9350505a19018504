import { effectScope } from 'vue'
import { describe, expect, it } from 'vitest'
import { ApiError } from '../api/problem'
import type { Page } from '../api/types'
import { usePages } from './pages'

interface Item {
  id: string
  text?: string
}

/** A list, newest first, two to a page; the cursor is the last id of the page before. */
class Server {
  items: Item[] = []
  failure: ApiError | null = null
  requests = 0

  fetchPage = (cursor: string | null): Promise<Page<Item>> => {
    this.requests += 1
    if (this.failure) return Promise.reject(this.failure)
    const start = cursor === null ? 0 : this.items.findIndex(({ id }) => id === cursor) + 1
    const items = this.items.slice(start, start + 2)
    const isLast = start + 2 >= this.items.length
    return Promise.resolve({ items, next: isLast ? null : (items.at(-1)?.id ?? null) })
  }

  add(...ids: string[]): void {
    for (const id of ids) this.items.unshift({ id })
  }
}

function open(...ids: string[]) {
  const server = new Server()
  server.add(...ids)
  const scope = effectScope()
  const pages = scope.run(() => usePages(server.fetchPage))
  if (!pages) throw new Error('the scope is inactive')
  return { server, scope, pages, shown: () => pages.data.value?.items.map(({ id }) => id) }
}

describe('usePages', () => {
  it('is empty, then ready', async () => {
    const { server, pages, shown } = open()
    expect(pages.state.value).toBe('loading')
    await pages.reload()
    expect(pages.state.value).toBe('empty')
    server.add('1')
    await pages.refresh()
    expect(pages.state.value).toBe('ready')
    expect(shown()).toEqual(['1'])
  })

  it('loads more until the end', async () => {
    const { pages, shown } = open('1', '2', '3')
    await pages.reload()
    expect(shown()).toEqual(['3', '2'])
    await pages.loadMore()
    expect(shown()).toEqual(['3', '2', '1'])
    expect(pages.data.value?.next).toBeNull()
  })

  it('leaves no gap when more came than fits a page', async () => {
    const { server, pages, shown } = open('1', '2', '3', '4')
    await pages.reload()
    await pages.loadMore()
    server.add('5', '6', '7')
    await pages.refresh()
    expect(shown()).toEqual(['7', '6', '5', '4', '3', '2', '1'])
  })

  it('starts anew after too much to catch up', async () => {
    const { server, pages, shown } = open('1', '2', '3')
    await pages.reload()
    server.add(...Array.from({ length: 40 }, (_, index) => `new${index}`))
    server.requests = 0
    await pages.refresh()
    expect(server.requests).toBe(5)
    expect(shown()).toHaveLength(10)
    expect(shown()?.at(-1)).toBe(pages.data.value?.next)
  })

  it('shows the newest version of what it knew', async () => {
    const { server, pages } = open('1', '2', '3')
    await pages.reload()
    server.items[0] = { id: '3', text: 'edited' }
    await pages.refresh()
    expect(pages.data.value?.items[0]).toEqual({ id: '3', text: 'edited' })
  })

  it('drops what is gone once the whole list was read', async () => {
    const { server, pages, shown } = open('1', '2')
    await pages.reload()
    server.items.pop()
    await pages.refresh()
    expect(shown()).toEqual(['2'])
  })

  it.each([
    [new ApiError(500, 'unexpected', ''), 'failed'],
    [new ApiError(403, 'forbidden', ''), 'denied'],
  ])('tells %s from the rest and recovers', async (failure, state) => {
    const { server, pages } = open('1')
    server.failure = failure
    await pages.reload()
    expect(pages.state.value).toBe(state)
    server.failure = null
    await pages.reload()
    expect(pages.state.value).toBe('ready')
    expect(pages.error.value).toBeNull()
  })

  it('keeps what it shows when a refresh fails', async () => {
    const { server, pages, shown } = open('1')
    await pages.reload()
    server.failure = new ApiError(0, 'unreachable', '')
    await pages.refresh()
    expect(pages.state.value).toBe('ready')
    expect(shown()).toEqual(['1'])
    expect(pages.error.value?.code).toBe('unreachable')
  })

  it('goes past pages without an item, as far as it may, and calls nothing empty that goes on', async () => {
    const empty = (next: string | null): Page<Item> => ({ items: [], next })
    const answers = [empty('a'), empty('b'), { items: [{ id: '1' }], next: 'c' }, empty('d'), empty(null)]
    const pages = effectScope().run(() => usePages(() => Promise.resolve(answers.shift() ?? empty('on'))))
    await pages?.reload()
    expect(pages?.data.value).toEqual({ items: [{ id: '1' }], next: 'c' })
    await pages?.loadMore()
    expect(pages?.data.value).toEqual({ items: [{ id: '1' }], next: null })
    await pages?.reload()
    expect([pages?.state.value, pages?.data.value]).toEqual(['ready', empty('on')])
  })

  it('takes no answer after its page was left', async () => {
    const { scope, pages } = open('1')
    const loading = pages.reload()
    scope.stop()
    await loading
    expect(pages.data.value).toBeNull()
  })
})
