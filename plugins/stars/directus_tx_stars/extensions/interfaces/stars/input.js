// The interface in forms: a button for each star. Clicking the rating that is set removes it.
(function () {
  "use strict";

  var component = {
    props: {
      value: {type: Number, default: null},
      options: {type: Object, default: function () { return {}; }},
      readonly: {type: Boolean, default: false},
    },
    methods: {
      rate: function (number) {
        this.$emit("input", number === this.value ? null : number);
      },
    },
    render: function (h) {
      var self = this;
      var buttons = [];
      for (var number = 1; number <= (Number(self.options.stars) || 5); number++) {
        buttons.push(button(number));
      }
      return h("div", {class: "stars-input", attrs: {role: "radiogroup"}}, buttons);

      function button(number) {
        return h("button", {
          class: {"stars-star": true, "stars-set": number <= self.value},
          attrs: {
            type: "button",
            role: "radio",
            "aria-label": String(number),
            "aria-checked": String(number === self.value),
            disabled: self.readonly,
          },
          on: {click: function () { self.rate(number); }},
        }, number <= self.value ? "\u2605" : "\u2606");
      }
    },
  };

  // Tools that bundle components export them as `default`.
  component.default = component;
  window.__DirectusExtension__ = component;
})();
