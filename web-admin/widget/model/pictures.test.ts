import { afterEach, describe, expect, it, vi } from 'vitest'
import { loadPicture, objection, storePicture } from './pictures'
import { MAX_PICTURE_BYTES } from './protocol'

function answering(status: number, body: unknown = {}) {
  const fetched = vi.fn<typeof fetch>(() =>
    Promise.resolve(new Response(JSON.stringify(body), { status })),
  )
  vi.stubGlobal('fetch', fetched)
  return fetched
}

afterEach(() => {
  vi.unstubAllGlobals()
})

describe('objection', () => {
  const file = (type: string, size: number) => ({ type, size }) as File

  it.each([
    ['image/png', 1, null],
    ['image/webp', MAX_PICTURE_BYTES, null],
    ['image/png', MAX_PICTURE_BYTES + 1, 'pictureTooLarge'],
    ['image/png', 0, 'pictureTooLarge'],
    ['image/svg+xml', 1, 'notAPicture'],
    ['', 1, 'notAPicture'],
  ])('to %s of %d bytes is %s', (type, size, expected) => {
    expect(objection(file(type, size))).toBe(expected)
  })
})

describe('storePicture', () => {
  const file = new Blob(['pixels'])

  it('puts the bytes to the address', async () => {
    const fetched = answering(200)
    expect(await storePicture('/media/x', file)).toBe('stored')
    expect(fetched).toHaveBeenCalledWith('/media/x', { method: 'PUT', body: file })
  })

  it.each([429, 500, 503])('tries later after %d', async (status) => {
    answering(status)
    expect(await storePicture('/media/x', file)).toBe('later')
  })

  it('tries later without a network', async () => {
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('offline')))
    expect(await storePicture('/media/x', file)).toBe('later')
  })

  it('says why the server will never take it', async () => {
    answering(413, { code: 'larger_than_declared', detail: 'Too large.' })
    expect(await storePicture('/media/x', file)).toEqual({
      code: 'larger_than_declared',
      detail: 'Too large.',
    })
    answering(403, null)
    expect(await storePicture('/media/x', file)).toEqual({ code: 'http_403', detail: '' })
  })
})

describe('loadPicture', () => {
  it('proves whose chat it is by a header, never in the address', async () => {
    const fetched = answering(200, 'pixels')
    expect(await (await loadPicture('token', 'secret', 'p1'))?.text()).toBe('"pixels"')
    expect(fetched).toHaveBeenCalledWith('/webchat/token/media/p1', {
      headers: { authorization: 'Bearer secret' },
    })
  })

  it('is null when it is gone', async () => {
    answering(404)
    expect(await loadPicture('token', 'secret', 'p1')).toBeNull()
  })

  it('rejects when it may be had later', async () => {
    answering(503)
    await expect(loadPicture('token', 'secret', 'p1')).rejects.toThrow('503')
  })
})
