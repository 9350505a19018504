import { encode } from 'uqr'
import { expect, it } from 'vitest'
import { squaresOf } from './qr'

const ADDRESS = 'otpauth://totp/Botyard:lin@tea.example?secret=ABCDEFGHIJKLMNOP&issuer=Botyard'

it('draws every square of the code, and none beside', () => {
  const { size, path } = squaresOf(ADDRESS)
  const drawn = Array.from({ length: size }, () => Array<boolean>(size).fill(false))
  for (const [, x = '', y = '', length = ''] of path.matchAll(/M(\d+) (\d+)\.5h(\d+)/g)) {
    drawn[Number(y)]?.fill(true, Number(x), Number(x) + Number(length))
  }
  expect(drawn).toEqual(encode(ADDRESS, { ecc: 'M', border: 4 }).data)
})

it('leaves room around it', () => {
  const { size, path } = squaresOf(ADDRESS)
  const starts = [...path.matchAll(/M(\d+) (\d+)/g)].flatMap(([, x, y]) => [Number(x), Number(y)])
  expect(Math.min(...starts)).toBe(4)
  expect(Math.max(...starts)).toBeLessThan(size - 4)
})
