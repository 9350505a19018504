import { describe, expect, it } from 'vitest'
import { LEVELS, readLine } from './line'

const level = (name: (typeof LEVELS)[number]) => LEVELS.indexOf(name)

describe('readLine', () => {
  it('says when, how grave and what, in the reader’s zone', () => {
    const raw = JSON.stringify({
      timestamp: '2026-01-02T03:04:05.006+00:00', level: 'warning', service: 'instance_agent',
      traceId: 'abc', spanId: '', message: 'slow', data: { ms: 3 },
    })
    const line = readLine(raw)
    expect(line.level).toBe(level('warning'))
    expect(line.text).toMatch(/^2026-01-0\d \d\d:\d\d:05\.006 WARNING slow \{"ms":3\} trace=abc$/)
  })

  it('leaves out what is empty', () => {
    expect(readLine('{"level":"info","message":"up","data":{},"traceId":""}').text).toBe('INFO up')
  })

  it('keeps what is no line of its own with the one above it', () => {
    expect(readLine('  File "x.py", line 3', level('error'))).toEqual({ text: '  File "x.py", line 3', level: level('error') })
    expect(readLine('{broken').level).toBe(level('info'))
  })

  it('takes a level that it does not know for a grave one', () => {
    expect(readLine('{"level":"critical","message":"down"}').level).toBe(level('error'))
  })
})
