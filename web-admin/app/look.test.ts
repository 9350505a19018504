// @vitest-environment happy-dom
import { expect, it } from 'vitest'
import { beginLook, endLook, lookOf } from './look'

it('lasts in its tab until it is ended', () => {
  const look = { tenantId: 't', tenantName: '茶馆', until: '2026-01-01T12:00:00Z' }
  expect(lookOf(sessionStorage)).toBeNull()
  beginLook(sessionStorage, look)
  expect(lookOf(sessionStorage)).toEqual(look)
  endLook(sessionStorage)
  expect(lookOf(sessionStorage)).toBeNull()
})
