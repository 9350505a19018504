import type { RouteRecordRaw } from 'vue-router'

export const contactsRoutes: RouteRecordRaw[] = [
  {
    path: 'contacts/:id?',
    name: 'contacts',
    component: () => import('./ContactsPage.vue'),
    props: true,
    meta: {
      audience: 'member',
      permission: 'conversations.read',
      nav: { group: 'inbox', order: 30, label: 'nav.contacts' },
    },
  },
]
