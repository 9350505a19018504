// @vitest-environment happy-dom
import { describe, expect, it, vi } from 'vitest'
import { findHost } from './host'

const shop = 'https://shop.example'

function frameWithin(parent: object, hash: string) {
  const listeners: ((event: object) => void)[] = []
  const frame = {
    parent,
    location: { hash },
    addEventListener: (_: string, listener: (event: object) => void) => listeners.push(listener),
  }
  const dispatch = (event: object) => {
    for (const listener of listeners) listener(event)
  }
  return { frame: frame as unknown as Window, dispatch }
}

describe('findHost', () => {
  it('finds none in a page of its own or without the loader', () => {
    expect(findHost(window)).toBeNull()
    expect(findHost(frameWithin({}, '').frame)).toBeNull()
  })

  it('posts to the host’s origin only', () => {
    const parent = { postMessage: vi.fn() }
    findHost(frameWithin(parent, `#host=${encodeURIComponent(shop)}`).frame)?.post({ botyard: 'close' })
    expect(parent.postMessage).toHaveBeenCalledExactlyOnceWith({ botyard: 'close' }, shop)
  })

  it('believes the host page only', () => {
    const parent = {}
    const { frame, dispatch } = frameWithin(parent, `#host=${encodeURIComponent(shop)}`)
    const heard: boolean[] = []
    findHost(frame)?.onShown((shown) => heard.push(shown))
    const data = { botyard: 'shown', shown: true }
    dispatch({ data, origin: 'https://evil.example', source: parent })
    dispatch({ data, origin: shop, source: {} })
    dispatch({ data: null, origin: shop, source: parent })
    expect(heard).toEqual([])
    dispatch({ data, origin: shop, source: parent })
    expect(heard).toEqual([true])
  })
})
