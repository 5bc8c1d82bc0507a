// A page with the number of items of each collection. `$api` is the JavaScript client of the app.
(function () {
  "use strict";

  var component = {
    data: function () {
      return {counts: [], error: ""};
    },
    created: function () {
      return this.load();
    },
    methods: {
      load: function () {
        var self = this;
        return self.$api.getCollections()
          .then(function (answer) {
            var names = answer.data
              .filter(function (each) { return each.managed && !each.collection.startsWith("directus_"); })
              .map(function (each) { return each.collection; })
              .sort();
            return Promise.all(names.map(function (name) {
              return self.$api.getItems(name, {limit: 1, fields: "*", meta: "total_count"}).then(function (items) {
                return {name: name, count: items.meta.total_count};
              });
            }));
          })
          .then(function (counts) { self.counts = counts; })
          .catch(function (error) { self.error = String((error && error.message) || error); });
      },
    },
    render: function (h) {
      if (this.error) {
        return h("p", {attrs: {role: "alert"}}, this.error);
      }
      return h("table", {class: "item-counts"}, this.counts.map(function (each) {
        return h("tr", {key: each.name}, [h("th", each.name), h("td", String(each.count))]);
      }));
    },
  };

  component.default = component;
  window.__DirectusExtension__ = component;
})();
