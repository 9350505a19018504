/** The hour for today's messages, with the day for older ones, as the reader's language writes it. */
export function describeTime(at: string, now: number, language: string): string {
  const date = new Date(at)
  if (Number.isNaN(date.getTime())) return ''
  const isToday = date.toDateString() === new Date(now).toDateString()
  return new Intl.DateTimeFormat(language, {
    ...(isToday ? {} : { month: 'short', day: 'numeric' }),
    hour: '2-digit',
    minute: '2-digit',
    hourCycle: 'h23',
  }).format(date)
}
